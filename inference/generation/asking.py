"""Asks for a text in the gateway: sets money aside, orders it, passes on what is written."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import redis
from celery.exceptions import OperationalError
from django.conf import settings
from django.db import DatabaseError, connection
from kombu.exceptions import OperationalError as BrokerError
from numpy.typing import NDArray

from accounts import rate_headers
from accounts.errors import MercatoError, OverloadedError
from accounts.keys import Caller
from accounts.rate_headers import Header
from billing import alerts, caps, holds
from billing.holds import Admission
from billing.ids import uuid7
from billing.reservations import Reservation
from inference import errors, limits, routing, versions
from inference.connections import PREDICT_DB, redis_client
from inference.generation import listening, ringing, wanted
from inference.generation.wire import (
    LISTENING_EXPIRY_MS,
    Order,
    listening_key,
    order_key,
    pack_order,
)
from inference.limits.gate import Counted
from inference.metrics import counting, families
from inference.predictions import in_database
from inference.runtime.errors import InputError
from inference.runtime.sampling import Choice
from inference.versions import Served

logger = logging.getLogger(__name__)
# Texts that one gateway process passes on at once.
MAX_OPEN = 256


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller wants written.

    Attributes:
        max_tokens: None leaves the length to us.
    """

    caller: Caller
    ref: str
    prompt: str
    choice: Choice
    request_id: str
    source: str = "api"
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    input_bytes: int = 0
    # The most the caller will pay, in nanos.
    ceiling_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A text whose money is set aside and which a worker has been asked for.

    Attributes:
        began_ns: When it was asked for, by `time.perf_counter_ns`.
    """

    hold_id: UUID
    organization_id: int
    version_id: int
    version_path: str
    model_path: str
    began_ns: int
    currency: str
    price_version_id: int
    input_tokens: int
    created_at: datetime
    admission: Admission
    # What the caller's limits hold of it until it has ended; None: it has none.
    counted: Counted | None = None

    @property
    def headers(self) -> tuple[Header, ...]:
        """What is left of the caller's caps and limits."""
        found = caps.headers(self.admission)
        if self.counted is None or self.counted.standing is None:
            return found
        return rate_headers.join(b", ", found, self.counted.standing.headers)

    def count(self, outcome: str) -> None:
        """Count how it ended: `succeeded`, or an error's code."""
        took, rows = counting.since(self.began_ns), int(outcome == "succeeded")
        counting.call(
            self.model_path, self.organization_id, outcome, took, rows, kind=families.TEXT
        )


async def begin(ask: Ask) -> Begun:
    """Admit and order a text.

    Raises:
        MercatoError: It is not understood, or there is no money; then nothing was charged.
    """
    if not listening.has_room(ask.caller.organization_id, MAX_OPEN):
        raise OverloadedError("Too many texts are being written.")
    served = versions.cached(ask.ref, ask.caller)
    if served is None:
        served = await in_database(versions.resolve, ask.ref, ask.caller)
    served = served.choose(ask.request_id)
    began_ns = time.perf_counter_ns()
    try:
        return await _begin(ask, served, began_ns)
    except MercatoError as error:
        model, organization_id = served.model_path, ask.caller.organization_id
        took = counting.since(began_ns)
        counting.call(model, organization_id, error.code, took, kind=families.TEXT)
        raise


async def _begin(ask: Ask, served: Served, began_ns: int) -> Begun:
    prompt, most = _read(ask, served)
    counted = await limits.enter(ask.caller, 1)
    hold_id = uuid7()
    listening.add(hold_id.hex, ask.caller.organization_id)
    try:
        begun = await in_database(_admit_and_order, ask, served, hold_id, prompt, most, began_ns)
    except BaseException:
        # Also where the caller goes away meanwhile: nobody would hear what is written.
        limits.leave(counted)
        await listening.stop(hold_id.hex)
        raise
    assert isinstance(begun, Begun)
    return replace(begun, counted=counted)


def _read(ask: Ask, served: Served) -> tuple[NDArray[np.int32], int]:
    """Return the prompt as numbers, and how many tokens the answer may have.

    Raises:
        WrongTaskError: The model does not write text.
        ContextLengthError: They are more than the model takes.
    """
    signature = served.signature
    if signature.input_kind != "prompt":
        raise errors.WrongTaskError(
            f"{served.path} does not write text. Its page shows how to call it.", param="model"
        )
    prompt = wanted.encode(ask.prompt, signature)
    try:
        return prompt, wanted.most_tokens(signature, len(prompt), ask.max_tokens)
    except InputError as error:
        raise errors.from_input_error(error) from error


def _reservation(ask: Ask, served: Served, hold_id: UUID, prompt: int, most: int) -> Reservation:
    now = datetime.now(UTC)
    return holds.prepare(
        ask.caller,
        served.terms_at(now).plan,
        share_version_id=served.share_version_id,
        quantities={
            "call": 1,
            "row": 1,
            "byte": ask.input_bytes,
            "input_token": prompt,
            "output_token": most,
        },
        source=ask.source,
        accepted_at=now,
        expires_at=now + timedelta(seconds=4 * settings.PREDICT_TIMEOUT_SECONDS),
        model_version_id=served.version_id,
        request_id=ask.request_id,
        ceiling_nanos=ask.ceiling_nanos,
        hold_id=hold_id,
    )


def _order(
    ask: Ask, served: Served, reservation: Reservation, prompt: NDArray[np.int32], most: int
) -> Order:
    return Order(
        hold_id=reservation.hold_id,
        version_id=served.version_id,
        organization_id=reservation.organization_id,
        price_version_id=reservation.price_version_id,
        share_version_id=reservation.share_version_id,
        reserved_nanos=reservation.reserved_nanos,
        accepted_at=reservation.accepted_at,
        input_bytes=ask.input_bytes,
        prompt=prompt,
        max_tokens=most,
        choice=ask.choice,
        stops=ask.stops,
    )


def _admit_and_order(
    ask: Ask, served: Served, hold_id: UUID, prompt: NDArray[np.int32], most: int, began_ns: int
) -> Begun:
    reservation = _reservation(ask, served, hold_id, len(prompt), most)
    order = _order(ask, served, reservation, prompt, most)
    admission = _admit(reservation)
    _send(order)
    return Begun(
        hold_id=hold_id,
        organization_id=ask.caller.organization_id,
        version_id=served.version_id,
        version_path=served.path,
        model_path=served.model_path,
        began_ns=began_ns,
        currency=reservation.currency,
        price_version_id=reservation.price_version_id,
        input_tokens=len(prompt),
        created_at=reservation.accepted_at,
        admission=admission,
    )


def _send(order: Order) -> None:
    try:
        pipeline = redis_client(PREDICT_DB).pipeline(transaction=False)
        expiry = settings.PREDICT_TIMEOUT_SECONDS * 3000
        pipeline.set(listening_key(order.order_id), 1, px=LISTENING_EXPIRY_MS)
        pipeline.set(order_key(order.order_id), pack_order(order), px=expiry)
        pipeline.execute()
        ringing.ring(order.order_id, order.version_id, routing.choose(order.version_id))
    except MercatoError as error:
        holds.void(order.hold_id, error.code)
        raise
    except (redis.RedisError, OperationalError, BrokerError) as error:
        logger.warning("order: %s", error)
        holds.void(order.hold_id, OverloadedError.code)
        raise OverloadedError("The queue cannot be reached. Nothing was charged.") from error


def _admit(reservation: Reservation) -> Admission:
    try:
        (outcome,) = holds.reserve_many([reservation])
    except DatabaseError as error:
        # If the commit had happened all the same, the hold expires.
        logger.warning("admission", exc_info=True)
        connection.close()
        raise OverloadedError("The books cannot be reached. Nothing was charged.") from error
    alerts.note_refusals([outcome])
    if isinstance(outcome, MercatoError):
        raise outcome
    return outcome
