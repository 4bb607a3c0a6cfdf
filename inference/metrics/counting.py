"""Counting what happens, on the path of a request: a tuple is put into a queue, nothing more.

The flusher's thread adds the tuples up (`tally`), so a request pays little and no lock. Labels come
from what the site knows: routes, codes, models that were found. Never from a caller's text, an
organization or a key.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from inference.metrics import families
from inference.metrics.families import Family

# More than this is forgotten, oldest first, when nobody takes them: a process without a flusher.
_MOST_EVENTS = 200_000


class CallTimes(NamedTuple):
    """Where the time of a call went until a worker's reply was here, in microseconds.

    Attributes:
        gateway: Reading, checking who calls and what; until it waits in its lane.
        lane: Waiting for the batch before it.
        admit: Setting the money aside.
        queue: On the way to a worker, waiting there, and back.
        run: In the model, with the batch.
        capture: Charging the batch.
        requests: How many requests were in the batch.
        shared: What `header` says of the batch; made once for all of them.
    """

    gateway: int
    lane: int
    admit: int
    queue: int
    run: int
    capture: int
    requests: int
    shared: bytes

    def header(self) -> bytes:
        """Return the value of `Server-Timing`: milliseconds, without the reply, which goes on."""
        return b"gateway;dur=%.3f, lane;dur=%.3f, %b" % (
            self.gateway / 1000,
            self.lane / 1000,
            self.shared,
        )


def shared_header(admit: int, queue: int, run: int, capture: int) -> bytes:
    """Return the part of `Server-Timing` that all requests of a batch have in common."""
    return b"admit;dur=%.3f, queue;dur=%.3f, run;dur=%.3f, capture;dur=%.3f" % (
        admit / 1000,
        queue / 1000,
        run / 1000,
        capture / 1000,
    )


class Batch(NamedTuple):
    """A batch that came back to the gateway; times in microseconds."""

    model: str
    requests: int
    rows: int
    admit: int
    queue: int
    run: int
    capture: int


class Worked(NamedTuple):
    """A batch in the worker that ran it; `outcomes` are those of its requests."""

    worker: str
    outcomes: Sequence[str]
    rows: int
    run_us: int
    capture_us: int


class Load(NamedTuple):
    """A worker loaded a model, or could not."""

    model: str
    microseconds: int
    is_good: bool


class Trace(NamedTuple):
    """Where the time of a call went, to be kept; it is not in the figures of stages.

    Attributes:
        stages: Microseconds in the order of `families.STAGES`; 0 where it never came to.
        requests: How many requests were in the batch.
    """

    hold_id: UUID
    stages: tuple[int, ...]
    requests: int


class Refusal(NamedTuple):
    """An error that a caller of the API was given."""

    code: str


class Added(NamedTuple):
    """Something that the whole site counts happened `n` times."""

    family: Family
    labels: tuple[str, ...]
    n: int


# (method, route, status, microseconds)
requests: deque[tuple[str, str, int, int]] = deque(maxlen=_MOST_EVENTS)
# (model, organization, kind, outcome, microseconds, rows)
calls: deque[tuple[str, int, str, str, int, int]] = deque(maxlen=_MOST_EVENTS)
# (model, hold, microseconds in all, where they went)
answers: deque[tuple[str, UUID, int, CallTimes]] = deque(maxlen=_MOST_EVENTS)
# What comes once per batch, or is rare.
events: deque[Batch | Worked | Load | Refusal | Trace | Added] = deque(maxlen=_MOST_EVENTS)


def since(began_ns: int) -> int:
    """Return the microseconds since an instant of `time.perf_counter_ns`."""
    return (time.perf_counter_ns() - began_ns) // 1000


def request(method: str, route: str, status: int, microseconds: int) -> None:
    """Count an answered request; `route` is the pattern, not the path."""
    requests.append((method, route, status, microseconds))


def call(
    model: str,
    organization_id: int,
    outcome: str,
    microseconds: int,
    rows: int = 0,
    kind: str = families.SYNC,
) -> None:
    """Count a call of a model that was found, when it has ended.

    Args:
        outcome: `succeeded` or an error's code.
        kind: What it was: one of those in `families`.
    """
    calls.append((model, organization_id, kind, outcome, microseconds, rows))


def answer(model: str, hold_id: UUID, microseconds: int, times: CallTimes) -> None:
    """Count where the time of a call went that was answered; `microseconds` are all of it."""
    answers.append((model, hold_id, microseconds, times))


def event(found: Batch | Worked | Load | Refusal | Trace) -> None:
    """Count what comes once per batch, or is rare, or runs in the background."""
    events.append(found)


def add(family: Family, labels: tuple[str, ...] = (), n: int = 1) -> None:
    """Add to a counter of the whole site; not for what every request does."""
    events.append(Added(family, labels, n))


def loaded(model: str, began_ns: int, *, is_good: bool) -> None:
    """Count that a worker loaded a model, or could not."""
    events.append(Load(model, since(began_ns), is_good))


def forget() -> None:
    """Forget what was counted and not carried away: a forked child must not count it again."""
    queues: tuple[deque[Any], ...] = (requests, calls, answers, events)
    for queue in queues:
        queue.clear()
