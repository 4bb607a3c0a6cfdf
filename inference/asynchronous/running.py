"""Runs what waits: in each predict worker one thread claims batches, runs them and ends them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from django.db import DatabaseError, close_old_connections, connection
from django.db.models import Q

from inference import loading, starts
from inference.answers import plain
from inference.asynchronous import claims, doorbell, endings, events, payloads
from inference.asynchronous.claims import Claim, Keeper
from inference.asynchronous.endings import Ran
from inference.batch_files import giving_way
from inference.metrics import counting
from inference.models import Prediction
from inference.runtime import batches, tensors
from inference.runtime.errors import InputError, ModelError
from inference.runtime.sessions import Arrays, Session

logger = logging.getLogger(__name__)
# However busy with calls the worker is: asynchronous predictions must not wait for ever.
MAX_YIELD_SECONDS = 1.0
# Without a ring the rows are looked at so often.
POLL_SECONDS = 2.0


def run_next(owner: str, where: Q | None = None) -> bool:
    """Run the next batch of those that wait; False if nobody waits.

    Args:
        where: Which predictions this worker may run; None: all.
    """
    giving_way.wait(MAX_YIELD_SECONDS)
    claimed = claims.claim(owner, where)
    if claimed is None:
        return False
    if claimed.has_more:
        # Wakes another worker, which wakes another one, until nobody waits.
        doorbell.ring()
    events.tell(claimed.predictions)
    with Keeper(claimed):
        ended = _finish(_run(claimed), owner)
    events.tell(ended)
    return True


def _finish(ran: Sequence[Ran], owner: str) -> list[Prediction]:
    began_ns = time.perf_counter_ns()
    ended = endings.finish(ran)
    if ran:
        outcomes, rows = [one.outcome for one in ran], max(one.batch_rows for one in ran)
        run_us = max(one.run_us for one in ran)
        counting.event(counting.Worked(owner, outcomes, rows, run_us, counting.since(began_ns)))
    return ended


def _run(claimed: Claim) -> list[Ran]:
    """Load the model, begin what was not canceled meanwhile, run it."""
    if not loading.is_settled(claimed.version_id):
        events.tell_starting(claimed.predictions, starts.estimate_ms(claimed.version_id))
    with ExitStack() as kept:
        try:
            session = kept.enter_context(loading.using(claimed.version_id))
        except (
            Exception
        ):  # a damaged file may raise anything; the predictions must end all the same
            logger.exception("version %s cannot be loaded", claimed.version_id)
            return [_failed(one, claimed.owner) for one in claimed.predictions]
        begun = claims.begin(claimed)
        if not begun:
            return []
        events.tell(begun)
        return _compute(session, begun, claimed.owner)


def _failed(prediction: Prediction, owner: str) -> Ran:
    return Ran(prediction, "platform_error", None, run_us=0, batch_rows=0, worker=owner)


def _compute(session: Session, begun: Sequence[Prediction], owner: str) -> list[Ran]:
    signature = loading.signature_of(begun[0].model_version_id)
    ran: list[Ran] = []
    good: list[tuple[Prediction, tensors.Input]] = []
    for one, value in zip(begun, payloads.inputs(begun), strict=True):
        try:
            good.append((one, tensors.decode(value, signature)))
        except InputError:
            # It was checked when it was accepted: this is ours to explain.
            logger.exception("prediction %s cannot be read", one.pk)
            ran.append(_failed(one, owner))
    if not good:
        return ran
    rows = [given.rows for _, given in good]
    arrays = batches.join([given.arrays for _, given in good])
    start = time.perf_counter_ns()
    outputs = batches.run(session, arrays, rows)
    run_us = (time.perf_counter_ns() - start) // 1000
    for (one, given), output in zip(good, outputs, strict=True):
        value = _value(output, given, begun[0].model_version_id)
        outcome = "model_error" if value is None else "succeeded"
        ran.append(Ran(one, outcome, value, run_us, sum(rows), owner))
    return ran


def _value(output: Arrays | ModelError, given: tensors.Input, version_id: int) -> Any:
    if isinstance(output, ModelError):
        return None
    signature = loading.signature_of(version_id)
    return plain(tensors.encode(output, signature, is_batch=given.is_batch))


class Runner:
    """The thread of one worker.

    Args:
        choose: Returns which predictions it may run now; None: none.
    """

    def __init__(self, owner: str, choose: Callable[[], Q | None]) -> None:
        self._owner = owner
        self._choose = choose
        self._bell = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._loop, name="async", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._bell.set()
        self._thread.start()

    def ring(self) -> None:
        """Look at the rows now."""
        self._bell.set()

    def leave(self) -> None:
        """Claim nothing more."""
        self._is_stopping = True
        self._bell.set()

    def stop(self) -> None:
        """End after the batch that runs."""
        self.leave()
        self._thread.join(timeout=30)

    def _loop(self) -> None:
        while not self._is_stopping:
            self._bell.wait(POLL_SECONDS)
            self._bell.clear()
            # Before the rows are looked at: a row that comes after rings again.
            doorbell.heard()
            self._drain()

    def _drain(self) -> None:
        close_old_connections()
        try:
            while not self._is_stopping and self._run_next():
                pass
        except DatabaseError:
            logger.warning("the queue cannot be read", exc_info=True)
            connection.close()
        except Exception:  # the thread's edge: what it held is claimed again when its lease ends
            logger.exception("asynchronous predictions")

    def _run_next(self) -> bool:
        where = self._choose()
        return where is not None and run_next(self._owner, where)
