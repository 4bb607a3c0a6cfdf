"""What gateway and worker say to each other, over Redis, in msgpack.

A batch is stored under a key; the Celery message only names it. So a message that is delivered
twice, or rung again after a worker died, finds the batch taken and does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgpack
import numpy as np

from inference.runtime.sessions import Arrays
from inference.runtime.signature import DATATYPES

# A worker that does not say it lives for this long is taken for dead.
HEARTBEAT_SECONDS = 0.5
HEARTBEAT_EXPIRY_MS = 3000


def batch_key(batch_id: str) -> str:
    """Where the input of a batch lies."""
    return f"batch:{batch_id}"


def taken_key(batch_id: str) -> str:
    """Which worker has taken a batch."""
    return f"taken:{batch_id}"


def staged_key(batch_id: str) -> str:
    """Where the reply lies before the charge is committed."""
    return f"staged:{batch_id}"


def reply_key(batch_id: str) -> str:
    """The list on which the gateway waits."""
    return f"reply:{batch_id}"


def pending_key(worker: str) -> str:
    """The list of the batches that a worker has not begun."""
    return f"pending:{worker}"


def awake_key(worker: str) -> str:
    """Exists while a worker listens to its list."""
    return f"awake:{worker}"


def heartbeat_key(worker: str) -> str:
    """Exists while a worker lives."""
    return f"worker:{worker}"


@dataclass(frozen=True, slots=True)
class Item:
    """One request of a batch, as the worker needs it."""

    hold_id: UUID
    organization_id: int
    price_version_id: int
    share_version_id: int
    reserved_nanos: int
    accepted_at: datetime
    rows: int
    input_bytes: int = 0
    # Set when the answer is stored: with an Idempotency-Key, or from the playground.
    prediction_id: UUID | None = None
    is_batch: bool = False
    # Of the texts of a model that reads text.
    input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What a worker is asked to run."""

    version_id: int
    items: list[Item]
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class Result:
    """How one request of a batch ended."""

    outcome: str
    cost_nanos: int
    # False: the hold had ended before; the database says how.
    is_ours: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker answers: results in order, and the rows of those that succeeded."""

    results: list[Result]
    arrays: Arrays
    queue_us: list[int]
    run_us: int
    batch_rows: int
    # Per request, for how long it waited until the model was loaded.
    start_us: list[int]
    # How long the charge took; not known yet in a reply that is put aside before it.
    capture_us: int = 0


def pack_batch(batch: Batch) -> bytes:
    """Write a batch."""
    items = [
        (
            item.hold_id.bytes,
            item.organization_id,
            item.price_version_id,
            item.share_version_id,
            item.reserved_nanos,
            _microseconds(item.accepted_at),
            item.rows,
            item.input_bytes,
            item.prediction_id.bytes if item.prediction_id else None,
            item.is_batch,
            item.input_tokens,
        )
        for item in batch.items
    ]
    return _pack((batch.version_id, items, pack_arrays(batch.arrays)))


def unpack_batch(data: bytes) -> Batch:
    """Read a batch.

    Raises:
        ValueError: Not a batch.
    """
    version_id, items, arrays = msgpack.unpackb(data)
    return Batch(version_id, [_item(*item) for item in items], unpack_arrays(arrays))


def _item(
    hold: bytes,
    organization_id: int,
    price: int,
    share: int,
    reserved: int,
    accepted: int,
    rows: int,
    input_bytes: int,
    prediction: bytes | None,
    is_batch: bool,
    input_tokens: int,
) -> Item:
    return Item(
        UUID(bytes=hold),
        organization_id,
        price,
        share,
        reserved,
        datetime.fromtimestamp(accepted / 1e6, UTC),
        rows,
        input_bytes,
        UUID(bytes=prediction) if prediction else None,
        is_batch,
        input_tokens,
    )


def pack_reply(reply: Reply) -> bytes:
    """Write a reply."""
    results = [(one.outcome, one.cost_nanos, one.is_ours, one.error) for one in reply.results]
    times = (reply.queue_us, reply.run_us, reply.batch_rows, reply.start_us, reply.capture_us)
    return _pack((results, pack_arrays(reply.arrays), *times))


def unpack_reply(data: bytes) -> Reply:
    """Read a reply."""
    results, arrays, *times = msgpack.unpackb(data)
    return Reply([Result(*one) for one in results], unpack_arrays(arrays), *times)


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def pack_arrays(arrays: Arrays) -> dict[str, Any]:
    """Return arrays in a form that msgpack writes."""
    return {
        name: (str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes())
        for name, array in arrays.items()
    }


def unpack_arrays(packed: dict[str, Any]) -> Arrays:
    """Read arrays.

    Raises:
        ValueError: They are none.
    """
    arrays: Arrays = {}
    for name, (datatype, shape, data) in packed.items():
        if datatype not in DATATYPES:
            raise ValueError(f"{datatype} is not a datatype.")
        # frombuffer checks that the bytes fit the type, reshape that they fit the shape.
        arrays[name] = np.frombuffer(data, dtype=datatype).reshape(shape)
    return arrays


def _microseconds(instant: datetime) -> int:
    return int(instant.timestamp() * 1e6)


def succeeded_rows(items: Sequence[Item], results: Sequence[Result]) -> list[int]:
    """Return how many rows each request has in the reply's arrays: none if it failed."""
    return [
        item.rows if one.outcome == "succeeded" else 0
        for item, one in zip(items, results, strict=True)
    ]
