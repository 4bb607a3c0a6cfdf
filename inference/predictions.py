"""Asking for a prediction: checked, put into a lane, awaited; stored where the caller wants it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from inference import errors, inputs, lanes, limits, routing, starting, versions
from inference.answers import Answer
from inference.asynchronous import payloads
from inference.asynchronous.wishes import Wish
from inference.limits.standing import Standing
from inference.metrics import counting
from inference.models import Prediction
from inference.runtime import tensors
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature
from inference.versions import Served

Status = Prediction.Status
# Cutting longer ones into tokens takes milliseconds.
_LONG_TEXT_BYTES = 4096
# Reads the database for requests whose key, version or stored answer is not in memory.
_database = ThreadPoolExecutor(max_workers=4, thread_name_prefix="database")


class Given:
    """A JSON value that becomes arrays once, and is forgotten with that.

    Thousands of small objects: freed at once their memory serves the next request. Kept until the
    answer is here, as many requests as wait fill the processor's caches with them.
    """

    __slots__ = ("_decode", "_value")

    def __init__(self, decode: Callable[[Any, Signature], tensors.Input], value: Any) -> None:
        self._decode, self._value = decode, value

    def __call__(self, signature: Signature) -> tensors.Input:
        """Check the value against a signature; not for a second time.

        Raises:
            InputError: It does not fit.
        """
        value, self._value = self._value, None
        return self._decode(value, signature)


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller asks for.

    Attributes:
        decode: Checks what was sent against the version's signature.
        stored_input: The JSON value to keep with the answer; None: only the answer's row is kept,
            and only with an Idempotency-Key.
        fingerprint: SHA-256 of method, path and body, for the Idempotency-Key.
    """

    caller: Caller
    ref: str
    decode: Callable[[Signature], tensors.Input]
    source: str
    request_id: str
    stored_input: Any = None
    idempotency_key: str = ""
    fingerprint: str = ""
    # How long the body was: what a price per byte counts.
    input_bytes: int = 0
    # The most the caller will pay, in nanos: the header `Mercato-Max-Cost`.
    ceiling_nanos: int | None = None
    # The binding quote to use: the header `Mercato-Quote`.
    quote: str = ""
    # It runs later, as a stored row: the header `Prefer`.
    wish: Wish | None = None
    # The id that the caller has chosen for it; it is its own Idempotency-Key.
    prediction_id: UUID | None = None
    # Seconds the caller will wait for a model that is not loaded: `Prefer: wait=N`.
    wait: int | None = None
    # How the answer is written, where a protocol has several forms.
    form: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that an earlier request with the same Idempotency-Key was given."""

    body: dict[str, Any]
    # What is left of the caller's limits; None: it has none.
    standing: Standing | None = None

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


async def predict(call: Call, began_ns: int | None = None) -> Answer | Replay:
    """Run one prediction and wait for it.

    Args:
        began_ns: When the request arrived, by `time.perf_counter_ns`; now if not given.

    Raises:
        MercatoError: What is wrong, or what failed; then nothing was charged, except a model
            error that the version's outcome policy charges for.
    """
    served = await find(call)
    began_ns = began_ns or time.perf_counter_ns()
    model, organization_id = served.model_path, call.caller.organization_id
    try:
        answer = await _predict(call, served, began_ns)
    except MercatoError as error:
        counting.call(model, organization_id, error.code, counting.since(began_ns))
        raise
    if isinstance(answer, Answer):
        took = counting.since(began_ns)
        counting.call(model, organization_id, "succeeded", took, answer.rows)
    return answer


async def _predict(call: Call, served: Served, began_ns: int) -> Answer | Replay:
    checked = await _decoded(call, served)
    counted = await limits.enter(call.caller, checked.rows)
    try:
        answer = await _answer(call, served, checked, began_ns)
    finally:
        limits.leave(counted)
    return answer if counted is None else replace(answer, standing=counted.standing)


async def find(call: Call) -> Served:
    """Return the version that is called.

    Raises:
        MercatoError: There is none, or it is not for this caller.
    """
    served = versions.cached(call.ref, call.caller)
    if served is None:
        served = await in_database(versions.resolve, call.ref, call.caller)
    # A quote binds to the version it was made for.
    return served if call.quote else served.choose(call.request_id)


def decode(call: Call, served: Served) -> tensors.Input:
    """Check the input against the version's signature.

    Raises:
        MercatoError: It does not fit.
    """
    try:
        return call.decode(served.signature)
    except InputError as error:
        raise errors.from_input_error(error) from error


async def _answer(
    call: Call, served: Served, checked: tensors.Input, began_ns: int
) -> Answer | Replay:
    hold_id = uuid7()
    prediction_id: UUID | None = None
    if call.stored_input is not None or call.idempotency_key:
        opened = await in_database(_open, call, served, hold_id)
        if isinstance(opened, Replay):
            return opened
        prediction_id = opened
    try:
        if not routing.is_warm(served.version_id):
            wait = settings.PREDICT_TIMEOUT_SECONDS if call.wait is None else call.wait
            await in_database(starting.require_in_time, served, wait)
        return await _run(call, served, checked, hold_id, prediction_id, began_ns)
    except MercatoError as error:
        if prediction_id is not None:
            await in_database(_close_failed, prediction_id, error)
        raise


async def _decoded(call: Call, served: Served) -> tensors.Input:
    """Check the input; long texts away from the event loop, which others wait for."""
    kind = served.signature.input_kind
    if kind == "prompt":
        raise errors.WrongTaskError(
            "This model writes text: call /v1/chat/completions or /v1/completions; or let it run "
            "later, with `Prefer: respond-async`.",
            param="model",
        )
    if kind == "text" and call.input_bytes > _LONG_TEXT_BYTES:
        found = await asyncio.get_running_loop().run_in_executor(_database, decode, call, served)
    else:
        found = decode(call, served)
    return tensors.counted(found, served.signature)


async def decoded_later(call: Call, served: Served) -> inputs.Input:
    """Check the input of what runs later.

    Raises:
        MercatoError: It does not fit.
    """
    if served.signature.input_kind != "prompt":
        return await _decoded(call, served)
    try:
        return inputs.read(call.stored_input, served.signature)
    except InputError as error:
        raise errors.from_input_error(error) from error


def count(value: Any, signature: Signature) -> dict[str, int]:
    """Return how many rows an input has, and how many tokens if it is text.

    Raises:
        MercatoError: It does not fit the signature.
    """
    try:
        found = tensors.counted(tensors.decode(value, signature), signature)
        return {"row": found.rows} | found.tokens()
    except InputError as error:
        raise errors.from_input_error(error) from error


def promise_of(
    call: Call, served: Served, rows: int, tokens: Mapping[str, int] | None = None
) -> quotes.Promise:
    """Read the quote that a call names; only calls that name one ask the database for it."""
    return quotes.promise(
        quotes.read(call.caller.organization_id, call.quote),
        quantities={"call": 1, "row": rows, "byte": call.input_bytes} | dict(tokens or {}),
        model_version_id=served.version_id,
    )


async def _run(
    call: Call,
    served: Served,
    checked: tensors.Input,
    hold_id: UUID,
    prediction_id: UUID | None,
    began_ns: int,
) -> Answer:
    promise = None
    if call.quote:
        promise = await in_database(promise_of, call, served, checked.rows, checked.tokens())
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
            began_ns=began_ns,
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
                input={} if call.stored_input is None else call.stored_input,
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
    if earlier.is_async or earlier.status != Status.PROCESSING:
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
    if not earlier.is_ended:
        raise IdempotencyInProgressError("The first request with this key still runs.")
    if earlier.status == Status.CANCELED:
        raise errors.CanceledError("The first request with this key was canceled.")
    if earlier.status == Status.FAILED:
        raise errors.ModelFailedError("The model failed on this input.")
    return Replay(payloads.answer_of(earlier))


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
    """Delete stored inputs and outputs whose time is over; returns how many.

    What waits or runs is never forgotten: asynchronous.sweeping ends it first.
    """
    expired = Prediction.objects.filter(expires_at__lt=datetime.now(UTC))
    due = expired.exclude(is_async=True, finished_at=None).values_list("pk", flat=True)
    deleted, _ = Prediction.objects.filter(pk__in=list(due[:limit])).delete()
    return deleted
