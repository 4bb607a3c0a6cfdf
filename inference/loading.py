"""Models in a predict worker's memory: fetched, opened, warmed up, kept by bytes.

One thread loads, one model after the other, so that the threads which run batches go on with
other models. What waits for a model is called back when it is loaded, or when that failed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from catalog.models import Artifact, ModelVersion
from inference import crashes, fetching, starts
from inference.metrics import counting
from inference.runtime.cache import ModelCache
from inference.runtime.memory import MIB, resident_bytes
from inference.runtime.sessions import Session, SlowSession, import_runtime, open_session, warm_up
from inference.runtime.signature import Signature

logger = logging.getLogger(__name__)
sessions: ModelCache[int] = ModelCache(settings.MODEL_CACHE_BYTES)
_KINDS = {"onnx": Artifact.Kind.ONNX, "tensorflow": Artifact.Kind.SAVED_MODEL}
# A version that could not be loaded is not tried again for so long.
FAILED_SECONDS = 5.0
# A worker that starts loads models for so long before it takes its first batch.
FIRST_SECONDS = 10.0
# What other threads take meanwhile is not the model's: its growth counts up to here.
_MOST_PER_BYTE, _MOST_BESIDES = 4, 32 * MIB


@dataclass
class _Start:
    """One load, from when it was asked for until the model was ready."""

    began_at: datetime
    ready_at: datetime | None = None
    then: list[Callable[[], None]] = field(default_factory=list)


_loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
_lock = threading.Lock()
_starts: dict[int, _Start] = {}
_failures: dict[int, tuple[float, Exception]] = {}


@cache
def signature_of(version_id: int) -> Signature:
    """Return a version's signature, which never changes."""
    return Signature.from_json(ModelVersion.objects.get(pk=version_id).signature)


def decoding_signature_of(version_id: int) -> Signature:
    """Return a version's signature with all that is needed to read inputs by it.

    Raises:
        DamagedArtifactError, OSError: The file that cuts texts into tokens cannot be read.
    """
    found = signature_of(version_id)
    if found.input_kind != "text":
        return found
    version = ModelVersion.objects.get(pk=version_id)
    return Signature.from_json(version.signature, fetching.tokenizer(version))


def using(version_id: int) -> AbstractContextManager[Session]:
    """Return the loaded model of a version, which stays loaded until the block ends.

    Raises:
        Exception: Whatever reading a damaged file raised; it is tried again some seconds later.
    """
    return sessions.using(version_id, partial(_open, version_id))


def session_of(version_id: int) -> Session:
    """Return the loaded model of a version.

    Raises:
        Exception: Whatever reading a damaged file raised; it is tried again some seconds later.
    """
    with using(version_id) as session:
        return session


def is_settled(version_id: int) -> bool:
    """Whether a batch of a version can be run, or refused, without waiting for a load."""
    return sessions.is_ready(version_id) or _failure(version_id) is not None


def start(version_id: int, then: Callable[[], None] | None = None) -> None:
    """Have the loader load a version; `then` is called when it has been, or has failed."""
    with _lock:
        under_way = _starts.get(version_id)
        if under_way is None or under_way.ready_at is not None:
            under_way = _starts[version_id] = _Start(datetime.now(UTC))
            _loader.submit(_load, version_id, under_way)
        if then is not None:
            under_way.then.append(then)


def _load(version_id: int, under_way: _Start) -> None:
    close_old_connections()
    try:
        session_of(version_id)
    except Exception:  # the loader's edge: a damaged file may raise anything
        logger.exception("version %s cannot be loaded", version_id)
    with _lock:
        under_way.ready_at = datetime.now(UTC)
        waiting, under_way.then = under_way.then, []
    for then in waiting:
        try:
            then()
        except Exception:  # what waits may have lost its broker; the others still wait
            logger.exception("version %s is loaded, and what waited cannot be told", version_id)


def start_us(version_id: int, since: datetime, until: datetime) -> int:
    """Return how much of an interval a version took to start, in microseconds."""
    under_way = _starts.get(version_id)
    if under_way is None:
        return 0
    overlap = min(under_way.ready_at or until, until) - max(under_way.began_at, since)
    return max(int(overlap.total_seconds() * 1e6), 0)


def starting() -> dict[int, datetime]:
    """Return what is being loaded, or waits for the loader, and since when."""
    with _lock:
        return {key: one.began_at for key, one in _starts.items() if one.ready_at is None}


def _failure(version_id: int) -> Exception | None:
    failed = _failures.get(version_id)
    if failed is None or failed[0] < time.monotonic() - FAILED_SECONDS:
        return None
    return failed[1]


def _open(version_id: int) -> Session:
    failed = _failure(version_id)
    if failed is not None:
        raise failed
    try:
        session = _counted(version_id)
    except Exception as error:
        # Whatever it was, even a row that has gone: what waits must be answered, not sent round.
        _failures[version_id] = (time.monotonic(), error)
        raise
    _failures.pop(version_id, None)
    return session


def _counted(version_id: int) -> Session:
    began_ns = time.perf_counter_ns()
    version = ModelVersion.objects.select_related("model__owner").get(pk=version_id)
    is_good = False
    try:
        with crashes.watch(version_id):
            session = _measured(version)
        is_good = True
    finally:
        counting.loaded(version.model.path, began_ns, is_good=is_good)
    return session


def _measured(version: ModelVersion) -> Session:
    """Load and warm up, and remember what it took."""
    artifact = version.artifacts.get(kind=_KINDS[version.runtime])
    # The framework itself is not the model's: neither its time nor its memory.
    import_runtime(version.runtime)
    began, before = time.perf_counter(), resident_bytes()
    session = open_session(
        version.runtime,
        fetching.fetch(artifact),
        kind=signature_of(version.pk).input_kind,
    )
    warm_up(
        session,
        {spec.name: (spec.shape, spec.datatype) for spec in signature_of(version.pk).inputs},
    )
    if settings.SLOW_ROW_MS:
        session = SlowSession(session, settings.SLOW_ROW_MS / 1000)
    on_disk = session.size_bytes
    most = _MOST_PER_BYTE * on_disk + _MOST_BESIDES
    session.size_bytes = max(on_disk, min(resident_bytes() - before, most))
    starts.record(version.pk, round((time.perf_counter() - began) * 1000), session.size_bytes)
    return session


def load_first(version_ids: Iterable[int]) -> None:
    """Load versions before anybody waits for them, for some seconds.

    The rest follows in the loader's thread, one by one: what is asked for meanwhile comes next.
    """
    rest = deque(version_ids)
    until = time.monotonic() + FIRST_SECONDS
    while rest and time.monotonic() < until:
        version_id = rest.popleft()
        try:
            session_of(version_id)
        except Exception:  # one damaged model must not keep the others from being served
            logger.exception("version %s cannot be loaded", version_id)
    _load_rest(rest)


def _load_rest(rest: deque[int]) -> None:
    if rest:
        start(rest.popleft(), then=partial(_load_rest, rest))


def unload_idle() -> None:
    """Forget what nobody has asked for in a long time."""
    if settings.MODEL_IDLE_SECONDS:
        for version_id in sessions.unload_idle(settings.MODEL_IDLE_SECONDS):
            logger.info("version %s was idle and is unloaded", version_id)


def loaded() -> list[dict[str, Any]]:
    """Return what is in memory, for the console."""
    sizes = sessions.loaded()
    found = ModelVersion.objects.filter(pk__in=sizes).select_related("model__owner")
    return [
        {
            "version": version.path,
            "id": version.pk,
            "runtime": version.runtime,
            "bytes": sizes[version.pk],
        }
        for version in found
    ]
