"""Batch files as a source of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any
from uuid import UUID

from inference import streams
from inference.batch_files.events import KIND
from inference.batch_files.serializers import batch_json
from inference.models import BatchFile


def stream(batch_id: UUID) -> AsyncIterator[bytes]:
    """Yield `state` now and whenever something has changed, and `end` when it has ended."""
    return streams.stream(SOURCE, batch_id)


def _read(batch_id: UUID) -> dict[str, Any]:
    return batch_json(BatchFile.objects.listed().get(pk=batch_id), with_errors=False)


def _ended(ids: Collection[UUID]) -> set[UUID]:
    """Return which have ended, or are deleted already."""
    is_open = BatchFile.objects.filter(pk__in=ids).exclude(status__in=BatchFile.TERMINAL)
    return set(ids) - set(is_open.values_list("pk", flat=True))


SOURCE = streams.Source(KIND, _read, _ended, is_whole=True)
