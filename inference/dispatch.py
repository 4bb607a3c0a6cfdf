"""One batch: stored, rung for, awaited; what happens when its worker dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from uuid import UUID

import redis
from celery.exceptions import OperationalError
from django.conf import settings
from kombu.exceptions import OperationalError as BrokerError

from accounts.errors import MercatoError, OverloadedError
from billing import holds
from billing.models import Hold
from inference.connections import PREDICT_DB, predict_app, redis_client
from inference.errors import ModelFailedError, PredictionTimeoutError, WorkerLostError
from inference.wire import (
    Batch,
    Reply,
    Result,
    batch_key,
    heartbeat_key,
    pack_batch,
    reply_key,
    staged_key,
    taken_key,
    unpack_reply,
)

logger = logging.getLogger(__name__)
# How long to wait for a reply before looking whether the worker still lives.
LOOK_SECONDS = 1.0
# A batch that nobody has taken is rung for again: its message died with a worker.
RING_SECONDS = 3.0
# A batch that has killed so many workers is not given to another one.
MAX_ATTEMPTS = 2


def run(batch_id: str, batch: Batch) -> Reply | MercatoError:
    """Have a worker run a batch whose holds are open.

    Returns:
        The reply; or, when there is none, why. Then no hold of the batch is charged.
    """
    hold_ids = [item.hold_id for item in batch.items]
    try:
        reply = _send_and_wait(batch_id, batch)
    except (redis.RedisError, OperationalError, BrokerError) as error:
        logger.warning("dispatch: %s", error)
        reply = OverloadedError("The queue cannot be reached. Nothing was charged.")
    if isinstance(reply, Reply):
        return reply
    return _give_up(batch_id, hold_ids, reply)


def _send_and_wait(batch_id: str, batch: Batch) -> Reply | MercatoError:
    client = redis_client(PREDICT_DB)
    client.set(batch_key(batch_id), pack_batch(batch), px=settings.PREDICT_TIMEOUT_SECONDS * 1000)
    _ring(batch_id)
    return _wait(client, batch_id)


def _wait(client: redis.Redis, batch_id: str) -> Reply | MercatoError:
    deadline = time.monotonic() + settings.PREDICT_TIMEOUT_SECONDS
    rung_at, attempts = time.monotonic(), 1
    while time.monotonic() < deadline:
        found = client.blpop([reply_key(batch_id)], timeout=LOOK_SECONDS)
        if found is not None:
            return unpack_reply(found[1])  # type: ignore[arg-type]  # bytes: nothing is decoded
        owner = client.get(taken_key(batch_id))
        if owner is None:
            if time.monotonic() - rung_at >= RING_SECONDS:
                _ring(batch_id)
                rung_at = time.monotonic()
        elif not client.exists(heartbeat_key(owner.decode())):  # type: ignore[union-attr]
            if client.exists(staged_key(batch_id)) or attempts >= MAX_ATTEMPTS:
                return WorkerLostError("The worker died while it ran this. Nothing was charged.")
            # The holds are still open: another worker may run it, and is charged once.
            client.delete(taken_key(batch_id))
            _ring(batch_id)
            rung_at, attempts = time.monotonic(), attempts + 1
    return PredictionTimeoutError(
        f"No answer within {settings.PREDICT_TIMEOUT_SECONDS} seconds. Nothing was charged."
    )


def _ring(batch_id: str) -> None:
    """Send the Celery task that names the batch."""
    app = predict_app()
    with app.producer_pool.acquire(block=True) as producer:
        app.send_task(
            "inference.run_batch",
            (batch_id,),
            producer=producer,
            queue=f"predict.{settings.PREDICT_POOL}",
            ignore_result=True,
            retry=False,
            argsrepr="",
            kwargsrepr="",
        )


def _give_up(batch_id: str, hold_ids: Iterable[UUID], reason: MercatoError) -> Reply | MercatoError:
    """End the holds. If the worker had charged them before it died, its staged reply is given."""
    ids = list(hold_ids)
    if holds.void_many(ids, reason.code) == len(ids):
        return reason
    data = redis_client(PREDICT_DB).get(staged_key(batch_id))
    if data is None:
        return reason
    staged = unpack_reply(data)  # type: ignore[arg-type]  # redis-py's types are loose
    # Whether a result counts is asked of each hold: see failure_of.
    results = [Result(one.outcome, one.cost_nanos, False, one.error) for one in staged.results]
    return Reply(results, staged.arrays, staged.queue_us, staged.run_us, staged.batch_rows)


def failure_of(result: Result, hold_id: UUID) -> MercatoError | None:
    """Return what to tell the caller instead of an answer; None if there is an answer."""
    if result.outcome == "model_error":
        return ModelFailedError("The model failed on this input.")
    if result.outcome == "platform_error":
        return OverloadedError("The model cannot be loaded at the moment. Nothing was charged.")
    if result.is_ours:
        return None
    # Somebody else ended this hold: another worker, whose output is the same, or nobody did.
    if Hold.objects.filter(pk=hold_id, state=Hold.State.CAPTURED).exists():
        return None
    return WorkerLostError("The worker died while it ran this. Nothing was charged.")
