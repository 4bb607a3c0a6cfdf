"""Copies calls that have been answered, for the version that runs beside the current one.

Nobody may notice: the callers have their answers already, a thread of its own talks to Redis, and
what does not fit or cannot be sent is dropped. A model without a shadow costs a look at a field.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import redis
from celery.exceptions import OperationalError
from kombu.exceptions import OperationalError as BrokerError

from accounts.errors import OverloadedError
from inference import routing
from inference.answers import Answer
from inference.connections import predict_app
from inference.metrics import counting, families
from inference.runtime import batches
from inference.runtime.sessions import Arrays
from inference.traffic import copies
from inference.traffic.copies import Copies, Copy

if TYPE_CHECKING:
    from inference.lanes import Outcome, Request

logger = logging.getLogger(__name__)
# What is answered in this time is sent together: one round trip, one message.
GATHER_SECONDS = 0.5
# A message nobody hears in this time is worthless: the next copies bring another one.
_EXPIRES_SECONDS = 5


class Target(NamedTuple):
    """Where copies of a model's calls go, and of how many of a hundred."""

    shadow_id: int
    version_id: int
    percent: int

    def takes(self, request_id: str) -> bool:
        """Whether a call is copied: always the same for a request id.

        Not by what chooses between versions: or a canary and a shadow would share their calls.
        """
        digest = blake2b(request_id.encode(), digest_size=4, person=b"shadow").digest()
        return int.from_bytes(digest) % 100 < self.percent


class _Answered(NamedTuple):
    """A call that is to be copied."""

    call: Copy
    inputs: Arrays
    outputs: Arrays

    @property
    def size(self) -> int:
        """How many bytes its arrays have."""
        return sum(array.nbytes for part in self[1:] for array in part.values())


_Batch = tuple[Target, list[_Answered]]
_offered: queue.Queue[_Batch] = queue.Queue(copies.MAX_BATCHES)
_lock = threading.Lock()
_thread: threading.Thread | None = None
_is_failing = False


def offer(requests: Sequence[Request], outcomes: Sequence[Outcome]) -> None:
    """Have calls copied that have been answered, as far as their versions are shadowed.

    It neither waits nor raises: a caller of the next batch would.
    """
    if not any(request.served.shadow for request in requests):
        return
    try:
        for batch in _chosen(requests, outcomes).items():
            _put(batch)
        _begin()
    except Exception:  # the edge: the lane must go on
        logger.exception("copies")


def _put(batch: _Batch) -> None:
    try:
        _offered.put_nowait(batch)
    except queue.Full:
        # Redis is slower than the calls: there will be others.
        _count_dropped("gateway")


def _count_dropped(reason: str, batches: int = 1) -> None:
    if batches:
        counting.add(families.COPIES_DROPPED, (reason,), batches)


def _chosen(
    requests: Sequence[Request], outcomes: Sequence[Outcome]
) -> dict[Target, list[_Answered]]:
    """Return the calls that are copied, up to the bytes of one batch."""
    found: dict[Target, list[_Answered]] = {}
    left, is_whole = copies.MAX_BYTES, True
    for request, outcome in zip(requests, outcomes, strict=True):
        target = request.served.shadow
        if target is None or not isinstance(outcome, Answer):
            continue
        if not target.takes(request.request_id):
            continue
        call = Copy(outcome.rows, outcome.run_us, outcome.batch_rows)
        one = _Answered(call, request.input.arrays, outcome.arrays)
        if one.size <= left:
            left -= one.size
            found.setdefault(target, []).append(one)
        else:
            is_whole = False
    _count_dropped("size", int(not is_whole))
    return found


def _begin() -> None:
    global _thread
    if _thread is None:
        with _lock:
            if _thread is None:
                _thread = threading.Thread(target=_keep_sending, name="copies", daemon=True)
                _thread.start()


def _keep_sending() -> None:
    ends = threading.Event()
    atexit.register(ends.set)
    while True:
        first = _offered.get()
        ends.wait(GATHER_SECONDS)
        gathered = [first, *_waiting()]
        _try(gathered)
        for _ in gathered:
            _offered.task_done()


def _waiting() -> list[_Batch]:
    found: list[_Batch] = []
    while True:
        try:
            found.append(_offered.get_nowait())
        except queue.Empty:
            return found


def _try(gathered: Sequence[_Batch]) -> None:
    """Send, or drop; that Redis or the broker is away is said once."""
    global _is_failing
    try:
        _send(gathered)
        _is_failing = False
    except OverloadedError:
        # All workers have calls enough. The copies wait for the next message, or expire.
        return
    except (redis.RedisError, OperationalError, BrokerError, OSError) as error:
        if not _is_failing:
            logger.warning("copies are dropped: %s", error)
        _is_failing = True
        _count_dropped("redis", len(gathered))
    except Exception:  # the thread's edge: the next copies must be sent all the same
        logger.exception("copies")


def _send(gathered: Sequence[_Batch]) -> None:
    packed: dict[Target, list[bytes]] = {}
    for target, answered in gathered:
        packed.setdefault(target, []).append(copies.pack(_joined(answered)))
    for target, parts in packed.items():
        _count_dropped("late", copies.put(target.shadow_id, parts))
        _ring(target)


def _joined(answered: Sequence[_Answered]) -> Copies:
    return Copies(
        [one.call for one in answered],
        batches.join([one.inputs for one in answered]),
        batches.join([one.outputs for one in answered]),
    )


def _ring(target: Target) -> None:
    """Tell a worker, if it can be one that has the version loaded.

    Raises:
        OverloadedError: All have too much to do.
    """
    predict_app().send_task(
        copies.TASK,
        (target.shadow_id,),
        queue=routing.choose(target.version_id).queue,  # type: ignore[arg-type]  # it takes a Queue as well
        expires=_EXPIRES_SECONDS,
        ignore_result=True,
        retry=False,
    )
