"""Which worker a batch goes to, and how many batches of a version may be away at once.

Each gateway process keeps a picture of the living workers, taken in the background once a second,
so that to choose costs no round trip. A batch goes to a worker that has its model loaded: the
one with the least to do. What is loaded nowhere goes to one worker that everybody agrees on
(rendezvous hash), so that it is loaded once; without any picture, to the queue they all share.
What needs labels goes only to workers that have them, never to that queue.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import redis
from django.conf import settings
from kombu import Queue

from accounts.errors import OverloadedError
from inference import registry
from inference.connections import PREDICT_DB, redis_client
from inference.errors import NoWorkerError
from inference.registry import Member

logger = logging.getLogger(__name__)
REFRESH_SECONDS = 1.0
# Batches that run for less are not worth several at once: what is paid per batch weighs more.
WIDE_RUN_US = 5_000
# Of one run's time in the average.
_NEWEST = 0.3


class Route(NamedTuple):
    """Where a batch goes; `worker` is empty if whoever comes first takes it."""

    worker: str = ""

    @property
    def queue(self) -> str | Queue:
        """The queue, as Celery takes it."""
        if self.worker:
            return registry.worker_queue(self.worker)
        return registry.shared_queue(settings.PREDICT_POOL)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The living workers of a pool, as they were at one moment."""

    pool: str = ""
    members: tuple[Member, ...] = ()
    serving: dict[int, tuple[Member, ...]] = field(default_factory=dict)


def _picture(pool: str, members: Collection[Member]) -> Fleet:
    serving: dict[int, list[Member]] = {}
    for member in members:
        if member.serves:
            for version_id in member.loaded:
                serving.setdefault(version_id, []).append(member)
    return Fleet(pool, tuple(members), {key: tuple(each) for key, each in serving.items()})


_fleet = Fleet()
_lock = threading.Lock()
_refresher: threading.Thread | None = None
# Batches of this process that are away: worker → how many.
_away: Counter[str] = Counter()
# Version → how long its batches run, in microseconds.
_run_us: dict[int, float] = {}
# Version → labels that a worker needs to run it.
_labels: dict[int, dict[str, str]] = {}
# Two gateways that know the same spread over workers that are equally good.
_salt = f"{os.getpid()}-{time.time_ns()}"


def fleet() -> Fleet:
    """Return the latest picture; the first call of a process begins to take them."""
    if _refresher is None:
        _begin()
    return _fleet if _fleet.pool == settings.PREDICT_POOL else Fleet()


def _begin() -> None:
    global _refresher
    with _lock:
        if _refresher is None:
            _refresher = threading.Thread(target=_keep_looking, name="fleet", daemon=True)
            _refresher.start()


def _keep_looking() -> None:
    ends = threading.Event()
    atexit.register(ends.set)
    while not ends.is_set():
        refresh()
        ends.wait(REFRESH_SECONDS)


def refresh() -> Fleet:
    """Take a picture now; without Redis the last one stays."""
    global _fleet
    pool = settings.PREDICT_POOL
    try:
        _fleet = _picture(pool, registry.read(redis_client(PREDICT_DB), pool))
    except (redis.RedisError, ValueError) as error:
        logger.warning("fleet: %s", error)
    return _fleet


def know(version_id: int, labels: dict[str, str]) -> None:
    """Note which labels a worker needs to run a version."""
    _labels[version_id] = labels


def _serving(version_id: int, known: Fleet) -> Sequence[Member]:
    """Return the workers that have a version loaded and may run it."""
    labels, found = _labels.get(version_id), known.serving.get(version_id, ())
    return [each for each in found if each.has(labels)] if labels else found


def width(version_id: int) -> int:
    """Return how many batches of a version this process may have away at once; at least 1.

    As many as workers serve it, if its runs take long enough that this pays.
    """
    if _run_us.get(version_id, 0.0) < WIDE_RUN_US:
        return 1
    return max(len(_serving(version_id, fleet())), 1)


def is_warm(version_id: int) -> bool:
    """Whether a worker has it loaded, or nobody is known who could tell."""
    known = fleet()
    return bool(_serving(version_id, known)) or not known.members


def choose(version_id: int, *, without: Collection[str] = ()) -> Route:
    """Choose where a batch goes.

    Args:
        without: Workers that have died with it.

    Raises:
        OverloadedError: All workers that may take it have as many batches waiting as is allowed.
        NoWorkerError: No worker that lives and takes it has the labels that it needs.
    """
    known, needed = fleet(), _labels.get(version_id, {})
    if needed and not known.members:
        # This process may have just begun to look.
        known = refresh()
    return _choose(version_id, known, without)


def elsewhere(version_id: int, needed: dict[str, str], worker: str) -> Route:
    """Choose where a worker sends a batch that it may not run.

    Raises:
        OverloadedError: As `choose`.
    """
    if not needed:
        return Route()
    know(version_id, needed)
    return _choose(version_id, refresh(), [worker])


def _choose(version_id: int, known: Fleet, without: Collection[str]) -> Route:
    needed = _labels.get(version_id, {})
    serving = [each for each in _serving(version_id, known) if each.name not in without]
    member = _least_busy(version_id, serving) or _newcomer(version_id, known, serving, without)
    if member is not None:
        return Route(member.name)
    able = [each for each in known.members if each.has(needed) and each.name not in without]
    if any(each.waiting >= settings.WORKER_MAX_WAITING for each in able):
        raise OverloadedError("All workers have too much to do. Nothing was charged.")
    if needed:
        raise _no_worker(needed)
    return Route()


def require_worker(version_id: int, needed: dict[str, str]) -> None:
    """Refuse what needs labels that no worker has which lives now.

    Raises:
        NoWorkerError
    """
    know(version_id, needed)
    if needed and not any(each.has(needed) for each in fleet().members):
        raise _no_worker(needed)


def _no_worker(needed: dict[str, str]) -> NoWorkerError:
    wanted = ", ".join(f"{name}={value}" for name, value in sorted(needed.items()))
    return NoWorkerError(f"No worker is there that has {wanted}. Nothing was charged.")


def _least_busy(version_id: int, serving: Collection[Member]) -> Member | None:
    free = [each for each in serving if each.waiting < settings.WORKER_MAX_WAITING]
    if len(free) < 2:
        return free[0] if free else None
    order = registry.ranked(version_id, free, _salt)
    return min(order, key=lambda each: (_away[each.name], each.waiting + each.running))


def _newcomer(
    version_id: int, known: Fleet, serving: Collection[Member], without: Collection[str]
) -> Member | None:
    """Return who should load it: who does so already, else the first in everybody's order."""
    left_out = {*without, *(each.name for each in serving)}
    able = [each for each in loaders(version_id, known) if each.name not in left_out]
    starting = [each for each in able if version_id in each.starting]
    return next(iter(registry.ranked(version_id, starting or able)), None)


def loaders(version_id: int, known: Fleet) -> list[Member]:
    """Return the workers that may load a version and have room in their queues."""
    labels = _labels.get(version_id, {})
    return [
        each
        for each in known.members
        if each.duty == registry.ACTIVE
        and each.has(labels)
        and each.waiting < settings.WORKER_MAX_WAITING
    ]


@contextmanager
def away(route: Route) -> Iterator[None]:
    """Count a batch as away from here until the block ends."""
    with _lock:
        _away[route.worker] += 1
    try:
        yield
    finally:
        with _lock:
            _away[route.worker] -= 1
            if not _away[route.worker]:
                del _away[route.worker]


def note_run(version_id: int, run_us: int) -> None:
    """Remember how long a batch ran."""
    earlier = _run_us.get(version_id, float(run_us))
    _run_us[version_id] = earlier + _NEWEST * (run_us - earlier)


def waited_ms(version_id: int) -> int | None:
    """Return for how long a worker has been loading a version; None if nobody does."""
    found = [each.starting.get(version_id) for each in fleet().members]
    return max((waited for waited in found if waited is not None), default=None)
