"""Batches on their way to a worker, and the bell that is rung only when nobody is awake.

What a worker is to run lies on its list; the Celery message is a doorbell. To send, deliver and
start one takes more CPU than all else that is paid per batch, so a worker that has been woken
listens to its list for a while after the last batch, and while it does so nobody rings.

Nothing is lost in between: the gateway puts the batch on the list and then looks whether the
worker is awake; the worker says that it sleeps and then looks at the list once more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import redis

from inference.link import Command, predict_link
from inference.wire import awake_key, pending_key

logger = logging.getLogger(__name__)
Run = Callable[[str, int], None]

# Threads of a worker process that listen; while one waits for the disk another computes. One more
# is left for what comes through the broker: under load those that listen never end.
LISTENERS = 2
# How long a thread listens after the last batch, in seconds.
LISTEN_SECONDS = 1.0
# What a worker that dies awake has claimed expires.
_AWAKE_MS = 5000

_lock = threading.Lock()
_listening = 0
_most = LISTENERS
_idle = 0
_closing = threading.Event()


def put(
    worker: str, batch_id: str, version_id: int, *first: Command, ahead: Command | None = None
) -> bool:
    """Put a batch on a worker's list, in one round trip.

    Args:
        first: Commands to be carried out before.
        ahead: A command to be sent along: see `Link.ask`.

    Returns:
        Whether the worker listens; otherwise it must be rung for.

    Raises:
        RedisError: It is not known whether it lies on the list.
    """
    entry = f"{version_id}:{batch_id}"
    *_, awake = predict_link().ask(
        *first, ("RPUSH", pending_key(worker), entry), ("GET", awake_key(worker)), ahead=ahead
    )
    return awake is not None


def take(worker: str) -> tuple[str, int] | None:
    """Take the batch that has waited longest from a worker's list: its id and its version."""
    return _parsed(predict_link().ask(("LPOP", pending_key(worker)))[0])


def share(threads: int) -> None:
    """Say how many threads the worker has, so that not all of them listen."""
    global _most
    _most = min(LISTENERS, threads - 1)


def listen(worker: str, run: Run) -> None:
    """Run the batches of a worker's list until it is quiet.

    A worker's only thread does not wait for more: it would keep what the broker brings waiting.

    Args:
        run: Runs a batch by its id and version.
    """
    if _begin():
        try:
            while not _closing.is_set() and (found := _next(worker)) is not None:
                _run(run, *found)
        finally:
            _end(worker)
    elif _most:
        return
    while (found := take(worker)) is not None:
        _run(run, *found)


def _begin() -> bool:
    global _listening
    with _lock:
        if _listening >= _most:
            return False
        _listening += 1
        return True


def _end(worker: str) -> None:
    global _listening
    with _lock:
        _listening -= 1
    predict_link().ask(("DEL", awake_key(worker)))


def _next(worker: str) -> tuple[str, int] | None:
    """Wait for a batch; None: it has been quiet."""
    link = predict_link()
    commands: list[Command] = [("BLPOP", pending_key(worker), LISTEN_SECONDS)]
    # Only if all listen: otherwise a batch could wait behind a long one while a thread is free.
    if _listening == _most:
        commands.insert(0, ("SET", awake_key(worker), 1, "PX", _AWAKE_MS))
    with _Idle():
        found = link.ask(*commands)[-1]
    return _parsed(found[1]) if found else None


class _Idle:
    """Counts a thread as idle while it waits."""

    def __enter__(self) -> None:
        self._add(1)

    def __exit__(self, *_: object) -> None:
        self._add(-1)

    def _add(self, number: int) -> None:
        global _idle
        with _lock:
            _idle += number


def _parsed(entry: bytes | None) -> tuple[str, int] | None:
    if entry is None:
        return None
    version_id, _, batch_id = entry.decode().partition(":")
    return batch_id, int(version_id)


def _run(run: Run, batch_id: str, version_id: int) -> None:
    try:
        run(batch_id, version_id)
    except redis.RedisError as error:
        logger.warning("batch %s: %s", batch_id, error)
    except Exception:  # the worker's edge: the next batch must be run all the same
        logger.exception("batch %s", batch_id)


def idle() -> int:
    """Return how many threads only wait for a batch."""
    return _idle


def close() -> None:
    """Let the listening threads end: the worker stops."""
    _closing.set()
