"""What a training has cost, or costs so far, as its owner reads it."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from billing.models import Hold
from billing.rating import plan_of, rate
from training.models import Job

_MILLISECOND = timedelta(milliseconds=1)


def so_far(job: Job) -> int:
    """Return the exact charge of a training that has ended, the price of its time before.

    Of a running one it is a reading, not a promise: only the charge at the end is booked, and
    never more than was set aside.
    """
    hold = job.hold
    if hold is None or hold.state in (Hold.State.VOIDED, Hold.State.EXPIRED):
        return 0
    if hold.captured_nanos is not None:
        return hold.captured_nanos
    running_ms = 0
    if job.started_at is not None:
        running = (job.finished_at or timezone.now()) - job.started_at
        running_ms = max(running // _MILLISECOND, 0)
    priced = rate(plan_of(hold.price_version), {"compute_ms": job.compute_ms or running_ms})
    return min(priced, hold.reserved_nanos)
