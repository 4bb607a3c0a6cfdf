"""What gateway and worker say to each other about a text, over Redis, in msgpack."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgpack
import numpy as np
from numpy.typing import NDArray

from inference.generation.wanted import Wanted
from inference.runtime.sampling import Choice

# A gateway that does not say it listens for this long is taken for dead.
LISTENING_SECONDS, LISTENING_EXPIRY_MS = 1.0, 10_000
# Why a gateway listens no longer: the caller has gone, or the gateway has ended the hold itself.
CANCELED, ENDED = b"canceled", b"ended"
_PIECE, _END, _CHARGED = range(3)
# The field of an entry of the stream.
EVENT = b"e"


def order_key(order_id: str) -> str:
    """Where the order of a text lies."""
    return f"order:{order_id}"


def pieces_key(order_id: str) -> str:
    """The stream in which the gateway reads what is written."""
    return f"pieces:{order_id}"


def gone_key(order_id: str) -> str:
    """Why nobody waits for a text any more."""
    return f"gone:{order_id}"


def listening_key(order_id: str) -> str:
    """Exists while the gateway lives that waits for a text."""
    return f"listening:{order_id}"


@dataclass(frozen=True, slots=True)
class Order:
    """A text that a worker is asked to write.

    Attributes:
        prompt: Characters as numbers.
    """

    hold_id: UUID
    version_id: int
    organization_id: int
    price_version_id: int
    share_version_id: int
    reserved_nanos: int
    accepted_at: datetime
    input_bytes: int
    prompt: NDArray[np.int32]
    max_tokens: int
    choice: Choice
    stops: tuple[str, ...]

    @property
    def order_id(self) -> str:
        """What the messages name it: one order a hold."""
        return self.hold_id.hex

    @property
    def wanted(self) -> Wanted:
        """The text itself."""
        return Wanted(self.prompt, self.max_tokens, self.choice, self.stops)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more text, and how many characters were before it: it may be told twice."""

    start: int
    text: str


@dataclass(frozen=True, slots=True)
class End:
    """How a text ended: told before the charge, so that whoever is charged can be told.

    Attributes:
        outcome: One of billing.outcomes.
        reason: `stop` or `length`; empty if it failed.
    """

    outcome: str
    reason: str
    output_tokens: int
    cost_nanos: int


@dataclass(frozen=True, slots=True)
class Charged:
    """The hold has ended: by this report, or by somebody else before."""

    is_ours: bool


Event = Piece | End | Charged


def pack_order(order: Order) -> bytes:
    """Write an order."""
    return _pack(
        (
            order.hold_id.bytes,
            order.version_id,
            order.organization_id,
            order.price_version_id,
            order.share_version_id,
            order.reserved_nanos,
            int(order.accepted_at.timestamp() * 1e6),
            order.input_bytes,
            order.prompt.tobytes(),
            order.max_tokens,
            (order.choice.temperature, order.choice.top_p, order.choice.seed),
            order.stops,
        )
    )


def unpack_order(data: bytes) -> Order:
    """Read an order.

    Raises:
        ValueError: Not an order.
    """
    hold, version, owner, price, share, reserved, accepted, size, prompt, most, choice, stops = (
        msgpack.unpackb(data)
    )
    return Order(
        hold_id=UUID(bytes=hold),
        version_id=version,
        organization_id=owner,
        price_version_id=price,
        share_version_id=share,
        reserved_nanos=reserved,
        accepted_at=datetime.fromtimestamp(accepted / 1e6, UTC),
        input_bytes=size,
        prompt=np.frombuffer(prompt, np.int32),
        max_tokens=most,
        choice=Choice(*choice),
        stops=tuple(stops),
    )


def pack_event(event: Event) -> bytes:
    """Write an event."""
    if isinstance(event, Piece):
        return _pack((_PIECE, event.start, event.text))
    if isinstance(event, Charged):
        return _pack((_CHARGED, event.is_ours))
    return _pack((_END, event.outcome, event.reason, event.output_tokens, event.cost_nanos))


def unpack_event(data: bytes) -> Event:
    """Read an event."""
    kind, *fields = msgpack.unpackb(data)
    return {_PIECE: Piece, _END: End, _CHARGED: Charged}[kind](*fields)  # type: ignore[no-any-return]


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
