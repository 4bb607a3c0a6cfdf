"""Runs copies of calls on the version that is shadowing, and compares what it gives.

In each predict worker one thread does so, when no call is run. Nothing here is charged, stored or
told to anybody but for the numbers of the shadow's row.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import redis
from django.db import DatabaseError, close_old_connections, connection
from numpy.typing import NDArray

from inference import loading
from inference.batch_files import giving_way
from inference.models import Shadow
from inference.runtime import batches
from inference.runtime.errors import ModelError
from inference.runtime.sessions import Arrays
from inference.runtime.signature import TensorSpec
from inference.traffic import copies, shadows
from inference.traffic.copies import Copies, Copy
from inference.traffic.shadows import Tally

logger = logging.getLogger(__name__)
# How far numbers may be apart and still agree: relative to the caller's, and besides.
RTOL, ATOL = 1e-3, 1e-4
# After so long the numbers are written, and another shadow has its turn.
TURN_SECONDS = 1.0


def agrees(outputs: Sequence[TensorSpec], given: Arrays, ours: Arrays) -> bool:
    """Whether all outputs of a call say the same as those that its caller was given.

    Args:
        outputs: Of the signature; what else a model returns is not looked at.
    """
    return all(_agrees(spec, given.get(spec.name), ours.get(spec.name)) for spec in outputs)


def _agrees(spec: TensorSpec, given: NDArray[Any] | None, ours: NDArray[Any] | None) -> bool:
    if given is None or ours is None or given.shape != ours.shape:
        return False
    if spec.labels:
        return np.array_equal(_classes(given), _classes(ours))
    if given.dtype.kind != "f":
        return np.array_equal(given, ours)
    return np.allclose(ours, given, rtol=RTOL, atol=ATOL)


def _classes(array: NDArray[Any]) -> NDArray[Any]:
    """Return the class of each row, as callers are told its label."""
    found: NDArray[Any] = array.reshape(len(array), -1).argmax(axis=1)
    return found


def compare(version_id: int, copied: Copies, tally: Tally) -> None:
    """Run copies, and count what came of them."""
    rows = [one.rows for one in copied.calls]
    given = batches.split(copied.outputs, rows)
    outputs, run_us = _run(version_id, copied.inputs, rows)
    expected = loading.signature_of(version_id).outputs
    for call, theirs, ours in zip(copied.calls, given, outputs, strict=True):
        tally.calls += 1
        if isinstance(ours, ModelError):
            tally.failures += 1
            continue
        tally.agreed += agrees(expected, theirs, ours)
        _add_times(tally, call, run_us, sum(rows))


def _run(
    version_id: int, inputs: Arrays, rows: Sequence[int]
) -> tuple[list[Arrays | ModelError], int]:
    """Return the outputs of each call, and how long the batch took in microseconds."""
    try:
        with loading.using(version_id) as session:
            began_ns = time.perf_counter_ns()
            outputs = batches.run(session, inputs, rows)
            return outputs, (time.perf_counter_ns() - began_ns) // 1000
    except Exception as error:  # a damaged file may raise anything: that is what is tried here
        logger.warning("version %s cannot run copies: %s", version_id, error)
        return [ModelError("not_loaded")] * len(rows), 0


def _add_times(tally: Tally, call: Copy, run_us: int, batch_rows: int) -> None:
    tally.run_us_total += run_us
    tally.batch_rows_total += batch_rows
    tally.stable_run_us_total += call.run_us
    tally.stable_batch_rows_total += call.batch_rows


class Comparer:
    """The thread of one worker.

    Args:
        may_load: Whether operators let this worker load what it has not loaded.
        may_run: Whether it has the labels that a version needs.
    """

    def __init__(
        self, may_load: Callable[[], bool], may_run: Callable[[int], bool] = lambda _: True
    ) -> None:
        self._may_load, self._may_run = may_load, may_run
        self._lock = threading.Lock()
        # In the order in which they have their turns.
        self._rung: dict[int, None] = {}
        self._bell = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._loop, name="shadows", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ring(self, shadow_id: int) -> None:
        """Look at the copies of a shadow."""
        with self._lock:
            self._rung[shadow_id] = None
        self._bell.set()

    def leave(self) -> None:
        """Take nothing more."""
        self._is_stopping = True
        self._bell.set()

    def stop(self) -> None:
        """End after the batch that runs."""
        self.leave()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        while not self._is_stopping:
            self._bell.wait()
            self._bell.clear()
            while not self._is_stopping and (shadow_id := self._next()) is not None:
                if self._try(shadow_id):
                    self.ring(shadow_id)

    def _next(self) -> int | None:
        with self._lock:
            shadow_id = next(iter(self._rung), None)
            if shadow_id is not None:
                del self._rung[shadow_id]
            return shadow_id

    def _try(self, shadow_id: int) -> bool:
        close_old_connections()
        try:
            return self.turn(shadow_id)
        except DatabaseError:
            logger.warning("shadow %s", shadow_id, exc_info=True)
            connection.close()
        except redis.RedisError as error:
            logger.warning("shadow %s: %s", shadow_id, error)
        except Exception:  # the thread's edge: the copies that come next must be run all the same
            logger.exception("shadow %s", shadow_id)
        return False

    def turn(self, shadow_id: int) -> bool:
        """Run copies of a shadow for a second; whether there may be more.

        Raises:
            DatabaseError: What was counted in this turn is lost.
            RedisError: No more copies can be had.
        """
        shadow = shadows.by_id(shadow_id)
        if shadow is None:
            copies.forget(shadow_id)
            return False
        if not self._may_run(shadow.version_id):
            return False
        if not loading.is_settled(shadow.version_id):
            # Who is to load nothing leaves the copies: they expire, or others are told of them.
            if self._may_load():
                loading.start(shadow.version_id, then=partial(self.ring, shadow_id))
            return False
        tally = Tally()
        try:
            return self._run(shadow, tally)
        finally:
            shadows.add(shadow_id, tally)

    def _run(self, shadow: Shadow, tally: Tally) -> bool:
        until = time.monotonic() + TURN_SECONDS
        while not self._is_stopping and time.monotonic() < until:
            if not giving_way.wait():
                continue
            copied = copies.take(shadow.pk)
            if copied is None:
                return False
            compare(shadow.version_id, copied, tally)
        return True
