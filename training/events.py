"""What happens to a job, as a stream: Redis for those who watch, the row for those who return."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any
from uuid import UUID

from inference import streams
from training.models import Job


def key(job_id: UUID) -> str:
    """Return where the events of a job are."""
    return SOURCE.key(job_id)


def publish(job_id: UUID, event: str, data: Mapping[str, Any]) -> None:
    """Add an event; a training goes on without Redis, its watchers read the row instead."""
    streams.publish([(key(job_id), event, data)])


def snapshot(job: Job) -> dict[str, Any]:
    """Return the state of a job for those who join late."""
    return {
        "id": str(job.pk),
        "state": job.state,
        "progress": job.progress,
        "curve": job.curve,
        "error_code": job.error_code or None,
        "error_message": job.error_message or None,
    }


def stream(job: Job, last_event_id: str = "") -> AsyncIterator[bytes]:
    """Yield server-sent events of a job until it has ended.

    First a `state` event with the whole curve, unless the watcher says which event it saw last;
    then what happens; at last `end`.
    """
    return streams.stream(SOURCE, job.pk, last_event_id)


def _read(job_id: UUID) -> dict[str, Any]:
    return snapshot(Job.objects.get(pk=job_id))


def _ended(ids: Collection[UUID]) -> set[UUID]:
    is_open = Job.objects.filter(pk__in=ids).exclude(state__in=Job.TERMINAL)
    return set(ids) - set(is_open.values_list("pk", flat=True))


SOURCE = streams.Source("job", _read, _ended)
