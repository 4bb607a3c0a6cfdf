"""Keeping where the time of each call went, and showing it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, transaction
from django.utils import timezone

from billing import bulk, ids
from inference.metrics import families
from inference.metrics.counting import Trace
from inference.models import CallTrace

logger = logging.getLogger(__name__)
_COLUMNS = ("hold_id", *(f"{stage}_us" for stage in families.STAGES), "requests")
_MOST_US = 2**31 - 1
_CHUNK = 1000


def keep(traces: Sequence[Trace]) -> None:
    """Store traces; without a database they are lost, and the site goes on."""
    if not settings.TRACE_HOURS:
        return
    try:
        for start in range(0, len(traces), _CHUNK):
            rows = [_row(trace) for trace in traces[start : start + _CHUNK]]
            with transaction.atomic():
                bulk.insert(CallTrace, _COLUMNS, rows)
    except DatabaseError as error:
        logger.warning("traces: %s", error)
        connection.close()


def keep_in_thread(traces: Sequence[Trace]) -> None:
    """Store traces in a thread of one's own, whose connection may have become old."""
    close_old_connections()
    keep(traces)


def _row(trace: Trace) -> tuple[object, ...]:
    return (trace.hold_id, *(min(each, _MOST_US) for each in trace.stages), trace.requests)


def forget(limit: int = 50_000) -> int:
    """Delete traces whose time is over; returns how many. Ids of holds are in order of time."""
    until = ids.floor(timezone.now() - timedelta(hours=settings.TRACE_HOURS))
    due = CallTrace.objects.filter(hold_id__lt=until).order_by("pk").values_list("pk", flat=True)
    return CallTrace.objects.filter(pk__in=list(due[:limit])).delete()[0]


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a call on a page: its time and where it lies in the whole, in 1/1000."""

    name: str
    microseconds: int
    begins: int
    width: int


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The stages of a call, one after the other.

    Attributes:
        requests: How many requests were in its batch.
    """

    steps: Sequence[Step]
    total_us: int
    requests: int


def waterfall(trace: CallTrace) -> Waterfall:
    """Lay out the stages that a call came to."""
    total = sum(trace.stages)
    steps, passed = [], 0
    for name, microseconds in zip(families.STAGES, trace.stages, strict=True):
        begins = passed * 1000 // max(total, 1)
        passed += microseconds
        if not microseconds:
            continue
        steps.append(Step(name, microseconds, begins, passed * 1000 // max(total, 1) - begins))
    return Waterfall(steps, total, trace.requests)


def of(hold_ids: Iterable[UUID]) -> dict[UUID, Waterfall]:
    """Return where the time of calls went, as far as that is kept; one query for all."""
    found = CallTrace.objects.filter(pk__in=list(hold_ids))
    return {trace.hold_id: waterfall(trace) for trace in found}
