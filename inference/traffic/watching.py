"""Looks at how canaries do, and rolls back those that do badly.

What counts is rows of the database, so the same rows give the same decision whoever looks: the
calls of the last ten minutes since the canary was started, and how they ended.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q
from django.utils import timezone

from billing import ids
from billing.models import Hold, UsageEvent
from inference.models import Canary
from inference.traffic import canaries

# A version that is slow for a few of its calls has a mean that looks well.
PERCENT = 95
LOOK_BACK = timedelta(minutes=10)
# Ends that speak against a version; a call that found no worker says nothing about it.
FAULTS = ("model_error", "platform_error", "prediction_timeout")


@dataclass(frozen=True, slots=True)
class Measured:
    """How a canary did, and the version it is compared with.

    Attributes:
        p95_us: 95 of 100 of its succeeded calls ran in batches that took no longer.
    """

    calls: int
    errors: int
    p95_us: int
    stable_calls: int
    stable_p95_us: int

    @property
    def error_percent(self) -> int:
        """Failures of a hundred calls, rounded down."""
        return self.errors * 100 // self.calls if self.calls else 0


def measure(canary: Canary, now: datetime | None = None) -> Measured:
    """Count how a canary did."""
    since = max(canary.started_at, (now or timezone.now()) - LOOK_BACK)
    ended = Hold.objects.filter(
        # Ids are in the order of time, and indexed; an id is made a moment before it is accepted.
        pk__gte=ids.floor(since - timedelta(minutes=1)),
        accepted_at__gte=since,
        model_version_id=canary.version_id,
    ).exclude(state=Hold.State.AUTHORISED)
    counted = ended.aggregate(
        calls=Count("pk", filter=Q(failure__in=("", *FAULTS))),
        errors=Count("pk", filter=Q(failure__in=FAULTS)),
    )
    _, p95_us = _runs(canary.version_id, since)
    stable_calls, stable_p95_us = _runs(canary.model.current_version_id, since)
    return Measured(counted["calls"], counted["errors"], p95_us, stable_calls, stable_p95_us)


def _runs(version_id: int | None, since: datetime) -> tuple[int, int]:
    """Return how many calls succeeded, and the 95th percentile of their run times."""
    succeeded = UsageEvent.objects.filter(
        pk__gte=ids.floor(since - timedelta(minutes=1)),
        occurred_at__gte=since,
        model_version_id=version_id,
        outcome="succeeded",
    )
    calls = succeeded.count()
    if not calls:
        return 0, 0
    # The value itself, not an estimate. Longest first: the database keeps a twentieth to sort.
    place = calls - -(-calls * PERCENT // 100)
    return calls, succeeded.order_by("-run_us").values_list("run_us", flat=True)[place]


def verdict(canary: Canary, measured: Measured) -> str:
    """Return why a canary is rolled back: errors, latency, or nothing."""
    if measured.calls < canary.min_calls:
        return ""
    if measured.errors * 100 > measured.calls * canary.max_error_percent:
        return "errors"
    succeeded = measured.calls - measured.errors
    if min(succeeded, measured.stable_calls) < canary.min_calls:
        return ""
    longest = measured.stable_p95_us * (100 + canary.max_slowdown_percent)
    return "latency" if measured.p95_us * 100 > longest else ""


def watch() -> int:
    """Look at every canary; returns how many were rolled back."""
    running = Canary.objects.filter(state=Canary.State.RUNNING).select_related(
        "model__owner", "version__model__owner"
    )
    rolled_back = 0
    for canary in running:
        measured = measure(canary)
        if cause := verdict(canary, measured):
            rolled_back += canaries.roll_back(canary, cause, asdict(measured))
    return rolled_back
