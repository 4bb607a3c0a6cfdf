"""Runs what waits: in each predict worker two threads claim batches, run them and end them.

One of them has the texts that are written: the other one's rows do not wait for a long text.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from django.db import DatabaseError, close_old_connections, connection
from django.db.models import Q

from inference import loading, starts
from inference.answers import plain
from inference.asynchronous import claims, doorbell, endings, events, payloads, writing
from inference.asynchronous.claims import Claim, Keeper
from inference.asynchronous.endings import Ran
from inference.batch_files import giving_way
from inference.metrics import counting
from inference.models import Prediction
from inference.runtime import batches, tensors
from inference.runtime.errors import InputError, ModelError
from inference.runtime.sessions import Arrays, Session
from inference.runtime.signature import Signature
from inference.runtime.writers import WriterSession

logger = logging.getLogger(__name__)
# However busy with calls the worker is: asynchronous predictions must not wait for ever.
MAX_YIELD_SECONDS = 1.0
# Without a ring the rows are looked at so often.
POLL_SECONDS = 2.0


def _never() -> bool:
    return False


def run_next(owner: str, where: Q | None = None, is_stopping: Callable[[], bool] = _never) -> bool:
    """Run the next batch of those that wait; False if nobody waits.

    Args:
        where: Which predictions this worker may run; None: all.
        is_stopping: Returns whether the worker is asked to stop: texts are given back then.
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
        for ran in _run(claimed, is_stopping):
            events.tell(_finish(ran, owner))
    return True


def _finish(ran: Sequence[Ran], owner: str) -> list[Prediction]:
    if not ran:
        return []
    began_ns = time.perf_counter_ns()
    ended = endings.finish(ran)
    outcomes, rows = [one.outcome for one in ran], max(one.batch_rows for one in ran)
    run_us = max(one.run_us for one in ran)
    counting.event(counting.Worked(owner, outcomes, rows, run_us, counting.since(began_ns)))
    return ended


def _run(claimed: Claim, is_stopping: Callable[[], bool]) -> Iterator[Sequence[Ran]]:
    """Load the model, begin what was not canceled meanwhile, run it; yields what has ended."""
    if not loading.is_settled(claimed.version_id):
        events.tell_starting(claimed.predictions, starts.estimate_ms(claimed.version_id))
    with ExitStack() as kept:
        try:
            session = kept.enter_context(loading.using(claimed.version_id))
            signature = loading.decoding_signature_of(claimed.version_id)
        except (
            Exception
        ):  # a damaged file may raise anything; the predictions must end all the same
            logger.exception("version %s cannot be loaded", claimed.version_id)
            yield [_failed(one, claimed.owner) for one in claimed.predictions]
            return
        begun = claims.begin(claimed)
        if not begun:
            return
        events.tell(begun)
        if isinstance(session, WriterSession):
            yield from writing.write(session, begun, claimed.owner, is_stopping)
        else:
            yield _compute(giving_way.polite(session), begun, signature, claimed.owner)


def _failed(prediction: Prediction, owner: str) -> Ran:
    return Ran(prediction, "platform_error", None, run_us=0, batch_rows=0, worker=owner)


def _compute(
    session: Session, begun: Sequence[Prediction], signature: Signature, owner: str
) -> list[Ran]:
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
        value = _value(output, given, signature)
        outcome = "model_error" if value is None else "succeeded"
        ran.append(Ran(one, outcome, value, run_us, sum(rows), owner))
    return ran


def _value(output: Arrays | ModelError, given: tensors.Input, signature: Signature) -> Any:
    if isinstance(output, ModelError):
        return None
    return plain(tensors.encode(output, signature, is_batch=given.is_batch))


class Runner:
    """One thread of a worker.

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
        return where is not None and run_next(self._owner, where, lambda: self._is_stopping)
