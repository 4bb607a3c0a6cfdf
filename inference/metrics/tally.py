"""Adding up what was counted, away from the path of requests."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from inference.metrics import counting, families
from inference.metrics.counting import Added, Batch, CallTimes, Load, Refusal, Worked
from inference.metrics.families import Family

SITE, MODEL, WORKER = "site", "model", "worker"
# Traces that are kept of one flush; more than a process can answer in a second.
_MOST_TRACES = 5000
# Minutes × callers × models that are kept while Redis is away; then the figures lose, not the
# process.
_MOST_CALLS = 50_000
_SEPARATOR = "\x1f"
# What is the platform's or the model's fault. Everything else was refused, and says nothing of it.
FAULTS = frozenset(
    {
        *("model_error", "platform_error", "worker_lost", "prediction_timeout", "overloaded"),
        *("no_worker", "internal_error"),
    }
)
# Times of live figures fall into buckets whose bounds grow by 7 %: a percentile is right to 4 %.
_GROWTH_PERCENT = 7
_SMALLEST_US = 50


def _live_bounds() -> tuple[int, ...]:
    bounds = [_SMALLEST_US]
    while bounds[-1] < 3_600_000_000:
        bounds.append(max(bounds[-1] * (100 + _GROWTH_PERCENT) // 100, bounds[-1] + 1))
    # With the bounds of the histogram among them, one bucket tells both.
    return tuple(sorted({*bounds, *families.TIMES}))


LIVE_BOUNDS = _live_bounds()

T = TypeVar("T")
# Field → how much was added.
Fields = dict[str, int]
# (scope, name, family, labels, number of the bucket) of a histogram
Bucket = tuple[str, str, Family, tuple[str, ...], int]
# (minute, model, organization, kind, outcome, bucket of LIVE_BOUNDS; -1 if it did not succeed)
CallKey = tuple[int, str, int, str, str, int]


@lru_cache(maxsize=65536)
def field_of(family: Family, labels: tuple[str, ...], bucket: str = "") -> str:
    """Return the field of a counter, or of a bucket or the sum of a histogram."""
    ends = (bucket,) if family.bounds else ()
    return _SEPARATOR.join((family.name, *labels, *ends))


def split(key: str) -> list[str]:
    """Take a field apart: family, labels, and of a histogram the bucket."""
    return key.split(_SEPARATOR)


class Tally:
    """What was counted since the last flush; only one thread uses it.

    Attributes:
        sums: (scope, name) → field → how much was added.
        calls: What a call was → (how many, microseconds, rows).
        batches: (minute, model) → (batches, rows).
        traces: Where the time of calls went; who stores them empties the list.
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], Fields] = {}
        self._buckets: dict[Bucket, list[int]] = {}
        self.calls: dict[CallKey, list[int]] = {}
        self.batches: dict[tuple[int, str], list[int]] = {}
        self.traces: list[counting.Trace] = []

    def take(self) -> None:
        """Add up what was counted until now."""
        for method, route, status, microseconds in _drain(counting.requests):
            labels = (method, route, str(status))
            self.observe(SITE, "", families.REQUESTS, labels, microseconds)
        self._take_calls()
        for model, hold_id, microseconds, times in _drain(counting.answers):
            self._answer(model, hold_id, microseconds, times)
        for event in _drain(counting.events):
            _HANDLERS[type(event)](self, event)

    def _take_calls(self) -> None:
        minute, calls = int(time.time()) // 60, self.calls
        for model, organization_id, kind, outcome, microseconds, rows in _drain(counting.calls):
            is_good = outcome == "succeeded"
            bucket = bisect_left(LIVE_BOUNDS, microseconds) if is_good else -1
            key = (minute, model, organization_id, kind, outcome, bucket)
            found = calls.get(key)
            if found is None:
                calls[key] = [1, microseconds, rows]
            else:
                found[0] += 1
                found[1] += microseconds
                found[2] += rows
        if len(calls) > _MOST_CALLS:
            self.add(SITE, "", families.DROPPED, (), sum(found[0] for found in calls.values()))
            calls.clear()
            self.batches.clear()

    def _answer(self, model: str, hold_id: UUID, microseconds: int, times: CallTimes) -> None:
        stages: tuple[int, ...] = times[:6]
        reply = max(microseconds - sum(stages), 0)
        self.trace(counting.Trace(hold_id, (*stages, reply), times.requests))
        # The other stages are the batch's, and counted with it.
        for stage, each in (("gateway", times[0]), ("lane", times[1]), ("reply", reply)):
            self.observe(MODEL, model, families.STAGE_SECONDS, (stage,), each)

    def trace(self, trace: counting.Trace) -> None:
        """Keep where the time of a call went, if there is room."""
        if len(self.traces) < _MOST_TRACES:
            self.traces.append(trace)

    def add(self, scope: str, name: str, family: Family, labels: tuple[str, ...], n: int) -> None:
        """Add to a counter."""
        fields = self.sums.setdefault((scope, name), {})
        key = field_of(family, labels)
        fields[key] = fields.get(key, 0) + n

    def observe(
        self, scope: str, name: str, family: Family, labels: tuple[str, ...], value: int, n: int = 1
    ) -> None:
        """Add a value to a histogram, `n` times."""
        self._bucket((scope, name, family, labels, bisect_left(family.bounds, value)), n, value * n)

    def _bucket(self, key: Bucket, n: int, total: int) -> None:
        found = self._buckets.get(key)
        if found is None:
            self._buckets[key] = [n, total]
        else:
            found[0] += n
            found[1] += total

    def finish(self) -> None:
        """Put what was kept in parts into the sums."""
        for (_, model, _, kind, outcome, bucket), (n, microseconds, rows) in self.calls.items():
            self.add(MODEL, model, families.CALLS, (kind, outcome), n)
            if bucket >= 0:
                place = bisect_left(families.TIMES, _bound(bucket))
                timed = (MODEL, model, families.CALL_SECONDS, (kind,), place)
                self._bucket(timed, n, microseconds)
                self.add(MODEL, model, families.ROWS, (kind,), rows)
        for (scope, name, family, labels, number), (n, total) in self._buckets.items():
            fields = self.sums.setdefault((scope, name), {})
            for key, more in ((str(number), n), ("sum", total)):
                field = field_of(family, labels, key)
                fields[field] = fields.get(field, 0) + more
        self._buckets.clear()


def _bound(bucket: int) -> int:
    return LIVE_BOUNDS[min(bucket, len(LIVE_BOUNDS) - 1)]


def _drain(queue: deque[T]) -> Iterator[T]:
    """Take what is in a queue now; others may put more into it meanwhile."""
    for _ in range(len(queue)):
        yield queue.popleft()


def _batch(tally: Tally, batch: Batch) -> None:
    model = batch.model
    found = tally.batches.setdefault((int(time.time()) // 60, model), [0, 0])
    found[0] += 1
    found[1] += batch.rows
    tally.observe(MODEL, model, families.BATCH_REQUESTS, (), batch.requests)
    tally.observe(MODEL, model, families.BATCH_ROWS, (), batch.rows)
    for stage in ("admit", "queue", "run", "capture"):
        value: int = getattr(batch, stage)
        tally.observe(MODEL, model, families.STAGE_SECONDS, (stage,), value, batch.requests)


def _load(tally: Tally, load: Load) -> None:
    result = "loaded" if load.is_good else "failed"
    tally.add(MODEL, load.model, families.LOADS, (result,), 1)
    if load.is_good:
        tally.observe(MODEL, load.model, families.LOAD_SECONDS, (), load.microseconds)


def _worked(tally: Tally, worked: Worked) -> None:
    # Its pid is no label: each start would make new series.
    name = worked.worker.rpartition(":")[0] or worked.worker
    tally.observe(WORKER, name, families.WORKER_RUN, (), worked.run_us)
    tally.observe(WORKER, name, families.WORKER_CAPTURE, (), worked.capture_us)
    tally.add(WORKER, name, families.WORKER_ROWS, (), worked.rows)
    for outcome in worked.outcomes:
        tally.add(WORKER, name, families.WORKER_REQUESTS, (outcome,), 1)


def _refusal(tally: Tally, refusal: Refusal) -> None:
    tally.add(SITE, "", families.ERRORS, (refusal.code,), 1)


def _added(tally: Tally, added: Added) -> None:
    tally.add(SITE, "", added.family, added.labels, added.n)


_HANDLERS: dict[type, Callable[[Tally, Any], None]] = {
    Added: _added,
    Batch: _batch,
    Load: _load,
    Refusal: _refusal,
    counting.Trace: Tally.trace,
    Worked: _worked,
}
