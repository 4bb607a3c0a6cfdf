"""One batch: stored, rung for, awaited; what happens when its worker dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from uuid import UUID

import redis
from celery.exceptions import OperationalError
from django.conf import settings
from kombu.exceptions import OperationalError as BrokerError

from accounts.errors import MercatoError, OverloadedError
from billing import holds
from billing.models import Hold
from inference import bells, placing, routing
from inference.connections import PREDICT_DB, predict_app, redis_client
from inference.errors import ModelFailedError, PredictionTimeoutError, WorkerLostError
from inference.link import Command, predict_link
from inference.metrics import counting, families
from inference.metrics.flushing import Reading
from inference.routing import Route
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
# When the batches that are away were sent, by `time.perf_counter_ns`.
_away: dict[str, int] = {}


def run(batch_id: str, batch: Batch) -> Reply | MercatoError:
    """Have a worker run a batch whose holds are open.

    Returns:
        The reply; or, when there is none, why. Then no hold of the batch is charged.
    """
    hold_ids = [item.hold_id for item in batch.items]
    _away[batch_id] = time.perf_counter_ns()
    try:
        reply = _send_and_wait(batch_id, batch)
    except (redis.RedisError, OperationalError, BrokerError) as error:
        logger.warning("dispatch: %s", error)
        reply = OverloadedError("The queue cannot be reached. Nothing was charged.")
    finally:
        del _away[batch_id]
    if isinstance(reply, Reply):
        return reply
    return _give_up(batch_id, hold_ids, reply)


def readings() -> Iterator[Reading]:
    """Tell how many batches of this process are away, and for how long the oldest is."""
    since = list(_away.values())
    yield families.BATCHES_AWAY.name, (), len(since)
    oldest = counting.since(min(since)) / 1e6 if since else 0
    yield families.BATCH_OLDEST.name, (), oldest


def _send_and_wait(batch_id: str, batch: Batch) -> Reply | MercatoError:
    expiry = settings.PREDICT_TIMEOUT_SECONDS * 1000
    try:
        errand = _Errand(batch_id, batch.version_id)
        errand.go(("SET", batch_key(batch_id), pack_batch(batch), "PX", expiry))
        return errand.wait()
    except OverloadedError as error:
        return error


class _Errand:
    """One batch that is away: rung for, given to another worker if its worker dies.

    Raises:
        OverloadedError: All workers have too much to do.
    """

    def __init__(self, batch_id: str, version_id: int) -> None:
        self._batch_id, self._version_id = batch_id, version_id
        self._lost: list[str] = []
        self._link = predict_link()
        self._route = routing.choose(version_id)
        self._rung_at = 0.0
        self._awaiting: Command = ("BLPOP", reply_key(batch_id), LOOK_SECONDS)

    def go(self, *first: Command) -> None:
        """Send the batch to its worker; `first` is carried out before."""
        self._rung_at = time.monotonic()
        ring(self._batch_id, self._version_id, self._route, *first, ahead=self._awaiting)

    def wait(self) -> Reply | MercatoError:
        """Wait for the reply, or until it is certain that none comes."""
        deadline = time.monotonic() + settings.PREDICT_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with routing.away(self._route):
                found = self._link.answer_to(self._awaiting)
            if found is not None:
                reply = unpack_reply(found[1])
                routing.note_run(self._version_id, reply.run_us)
                return reply
            failure = self._look()
            if failure is not None:
                return failure
        return PredictionTimeoutError(
            f"No answer within {settings.PREDICT_TIMEOUT_SECONDS} seconds. Nothing was charged."
        )

    def _look(self) -> MercatoError | None:
        """See whether the worker that has the batch, or is to take it, still lives."""
        [owner] = self._link.ask(("GET", taken_key(self._batch_id)))
        name = owner.decode() if owner else self._route.worker
        if name and not self._link.ask(("EXISTS", heartbeat_key(name)))[0]:
            return self._give_to_another(name)
        if not owner and time.monotonic() - self._rung_at >= RING_SECONDS:
            # What this process knew when it was sent may have been some seconds old.
            placing.require_worker(self._version_id)
            self.go()
        return None

    def _give_to_another(self, dead: str) -> MercatoError | None:
        self._lost.append(dead)
        [is_staged] = self._link.ask(("EXISTS", staged_key(self._batch_id)))
        if is_staged or len(self._lost) >= MAX_ATTEMPTS:
            return WorkerLostError("The worker died while it ran this. Nothing was charged.")
        # The holds are still open: another worker may run it, and is charged once.
        self._link.ask(("DEL", taken_key(self._batch_id)))
        self._route = routing.choose(self._version_id, without=self._lost)
        self.go()
        return None


def ring(
    batch_id: str,
    version_id: int,
    route: Route,
    *first: Command,
    ahead: Command | None = None,
) -> None:
    """Hand a batch to a worker that listens; otherwise send the Celery task that wakes one.

    Args:
        first: Commands for Redis that are to be carried out before, in the same round trip.
        ahead: What to wait for then; sent along where that saves a round trip.
    """
    if route.worker:
        if not bells.put(route.worker, batch_id, version_id, *first, ahead=ahead):
            _send("inference.listen", (), route)
        return
    if first:
        predict_link().ask(*first)
    _send("inference.run_batch", (batch_id, version_id), route)


def load(version_id: int) -> None:
    """Have a worker load a version; what cannot be sent now is loaded by the next call.

    Raises:
        OverloadedError: All workers have too much to do.
    """
    try:
        _send("inference.load_version", (version_id,), routing.choose(version_id))
    except (redis.RedisError, OperationalError, BrokerError) as error:
        logger.warning("load: %s", error)


def _send(task: str, arguments: tuple[object, ...], route: Route) -> None:
    app = predict_app()
    with app.producer_pool.acquire(block=True) as producer:
        app.send_task(
            task,
            arguments,
            producer=producer,
            queue=route.queue,  # type: ignore[arg-type]  # it takes a Queue as well
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
    return replace(staged, results=results)


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
