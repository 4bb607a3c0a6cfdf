"""Asking for a prediction: checked, put into a lane, awaited; stored where the caller wants it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, close_old_connections, transaction

from accounts.errors import (
    IdempotencyInProgressError,
    IdempotencyMismatchError,
    MercatoError,
)
from accounts.keys import Caller
from billing import quotes
from billing.ids import uuid7
from billing.models import Hold
from inference import errors, lanes, versions
from inference.answers import Answer
from inference.models import Prediction
from inference.runtime import tensors
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature
from inference.versions import Served

MAX_ROWS = 1024
Status = Prediction.Status
# Reads the database for requests whose key, version or stored answer is not in memory.
_database = ThreadPoolExecutor(max_workers=4, thread_name_prefix="database")


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller asks for.

    Attributes:
        value: The JSON value of `input`, or of `instances`.
        fingerprint: SHA-256 of method, path and body, for the Idempotency-Key.
    """

    caller: Caller
    ref: str
    value: Any
    source: str
    request_id: str
    is_instances: bool = False
    is_stored: bool = False
    idempotency_key: str = ""
    fingerprint: str = ""
    # How long the body was: what a price per byte counts.
    input_bytes: int = 0
    # The most the caller will pay, in nanos: the header `Mercato-Max-Cost`.
    ceiling_nanos: int | None = None
    # The binding quote to use: the header `Mercato-Quote`.
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that an earlier request with the same Idempotency-Key was given."""

    body: dict[str, Any]

    @property
    def cost_text(self) -> str:
        """What the first request cost; the replay costs nothing more."""
        return str(self.body["cost"]["amount"])


async def in_database(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function that reads the database, away from the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_database, _fresh, function, *args)


def _fresh(function: Callable[..., Any], *args: Any) -> Any:
    close_old_connections()
    return function(*args)


async def predict(call: Call) -> Answer | Replay:
    """Run one prediction and wait for it.

    Raises:
        MercatoError: What is wrong, or what failed; then nothing was charged, except a model
            error that the version's outcome policy charges for.
    """
    served = versions.cached(call.ref, call.caller)
    if served is None:
        served = await in_database(versions.resolve, call.ref, call.caller)
    checked = _decode(call, served.signature)
    hold_id = uuid7()
    prediction_id: UUID | None = None
    if call.is_stored or call.idempotency_key:
        opened = await in_database(_open, call, served, hold_id)
        if isinstance(opened, Replay):
            return opened
        prediction_id = opened
    try:
        return await _run(call, served, checked, hold_id, prediction_id)
    except MercatoError as error:
        if prediction_id is not None:
            await in_database(_close_failed, prediction_id, error)
        raise


def _decode(call: Call, signature: Signature) -> tensors.Input:
    try:
        if call.is_instances:
            return tensors.decode_instances(call.value, signature, max_rows=MAX_ROWS)
        return tensors.decode(call.value, signature, max_rows=MAX_ROWS)
    except InputError as error:
        raise errors.from_input_error(error) from error


def count_rows(value: Any, signature: Signature) -> int:
    """Return how many rows an input has.

    Raises:
        MercatoError: It does not fit the signature.
    """
    try:
        return tensors.decode(value, signature, max_rows=MAX_ROWS).rows
    except InputError as error:
        raise errors.from_input_error(error) from error


def _promise(call: Call, served: Served, rows: int) -> quotes.Promise:
    """Read the quote that a call names; only calls that name one ask the database for it."""
    return quotes.promise(
        quotes.read(call.caller.organization_id, call.quote),
        quantities={"call": 1, "row": rows, "byte": call.input_bytes},
        model_version_id=served.version_id,
    )


async def _run(
    call: Call,
    served: Served,
    checked: tensors.Input,
    hold_id: UUID,
    prediction_id: UUID | None,
) -> Answer:
    promise = None
    if call.quote:
        promise = await in_database(_promise, call, served, checked.rows)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()
    lanes.submit(
        lanes.Request(
            caller=call.caller,
            served=served,
            input=checked,
            source=call.source,
            request_id=call.request_id,
            accepted_at=datetime.now(UTC),
            hold_id=hold_id,
            input_bytes=call.input_bytes,
            ceiling_nanos=call.ceiling_nanos,
            quote=promise,
            loop=loop,
            future=future,
            prediction_id=prediction_id,
        )
    )
    # A caller that goes away does not stop what was admitted: it is run and charged.
    return await future


def fingerprint(method: str, path: str, body: bytes) -> str:
    """Return what tells two requests with one Idempotency-Key apart."""
    return hashlib.sha256(b"\0".join([method.encode(), path.encode(), body])).hexdigest()


def _open(call: Call, served: Served, hold_id: UUID) -> UUID | Replay:
    """Make the row that the worker fills, or find the answer of an earlier request."""
    try:
        with transaction.atomic():
            return Prediction.objects.create(
                organization_id=call.caller.organization_id,
                model_version_id=served.version_id,
                api_key_id=call.caller.api_key_id,
                user_id=call.caller.user_id,
                hold_id=hold_id,
                input=call.value if call.is_stored else {},
                idempotency_key=call.idempotency_key,
                fingerprint=call.fingerprint,
                expires_at=datetime.now(UTC) + timedelta(hours=settings.PREDICTION_RETENTION_HOURS),
            ).pk
    except IntegrityError:
        earlier = Prediction.objects.filter(
            organization_id=call.caller.organization_id, idempotency_key=call.idempotency_key
        ).first()
    if earlier is None:
        return _open(call, served, hold_id)
    if _is_abandoned(earlier):
        Prediction.objects.filter(pk=earlier.pk, status=Status.PROCESSING).delete()
        return _open(call, served, hold_id)
    return _replay(call, earlier)


def _is_abandoned(earlier: Prediction) -> bool:
    """Whether the process that ran it died before anything was charged."""
    if earlier.status != Status.PROCESSING:
        return False
    hold = earlier.hold
    if hold is not None:
        return hold.state in {Hold.State.VOIDED, Hold.State.EXPIRED}
    age = datetime.now(UTC) - earlier.created_at
    return age > timedelta(seconds=2 * settings.PREDICT_TIMEOUT_SECONDS)


def _replay(call: Call, earlier: Prediction) -> Replay:
    if earlier.fingerprint != call.fingerprint:
        raise IdempotencyMismatchError(
            "This Idempotency-Key was used with another request.", param="Idempotency-Key"
        )
    if earlier.status == Status.PROCESSING:
        raise IdempotencyInProgressError("The first request with this key still runs.")
    if earlier.status == Status.FAILED:
        raise errors.ModelFailedError("The model failed on this input.")
    assert earlier.answer is not None
    return Replay(earlier.answer)


def _close_failed(prediction_id: UUID, error: MercatoError) -> None:
    """What was refused is forgotten, so that it may be tried again; a model's failure is kept."""
    mine = Prediction.objects.filter(pk=prediction_id, status=Status.PROCESSING)
    if isinstance(error, errors.ModelFailedError):
        mine.update(
            status=Status.FAILED, answer={"code": error.code}, finished_at=datetime.now(UTC)
        )
    else:
        mine.delete()


def forget_expired(limit: int = 5000) -> int:
    """Delete stored inputs and outputs whose time is over; returns how many."""
    due = Prediction.objects.filter(expires_at__lt=datetime.now(UTC)).values_list("pk", flat=True)
    deleted, _ = Prediction.objects.filter(pk__in=list(due[:limit])).delete()
    return deleted
