"""Who may run a job: claim, renew, finish, and the sweep for those whose worker died.

Every change is one conditional UPDATE that names the attempt, the fencing token: a worker that
was thought dead and comes back changes nothing. Instants are the database's, never a worker's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import (
    Count,
    DateTimeField,
    ExpressionWrapper,
    F,
    IntegerField,
    OuterRef,
    Subquery,
)
from django.db.models.functions import Coalesce, Now

from billing import holds, reports
from billing.models import Hold
from billing.rating import plan_of
from training import doorbell, estimates, jobs
from training.errors import FAILURES
from training.models import Job
from training.models.jobs import JobQuerySet

State = Job.State

# Who has started much of late waits for those who have not.
_FAIR_WINDOW = timedelta(hours=1)
_CLAIM_TRIES = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one attempt of a job."""

    job_id: UUID
    attempt: int
    owner: str
    hold_id: UUID | None
    pool: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended for good."""

    state: str
    # One of billing.outcomes.OUTCOMES.
    outcome: str
    compute_ms: int = 0
    error_code: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)


def failed(code: str, *, outcome: str = "platform_error", compute_ms: int = 0) -> Ending:
    """Return the ending of a failure that FAILURES describes."""
    return Ending(State.FAILED, outcome, compute_ms=compute_ms, error_code=code)


def _from_now(seconds: float) -> ExpressionWrapper[Any]:
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())


def claim(pool: str, owner: str) -> Lease | None:
    """Take the job that should run next; None if none waits."""
    for _ in range(_CLAIM_TRIES):
        job = _next(pool)
        if job is None:
            return None
        lease = Lease(job.pk, job.attempt + 1, owner, job.hold_id, pool)
        if not _take(lease):
            continue
        if job.hold_id is not None and not holds.extend(job.hold_id, _hold_until()):
            finish(lease, failed("hold_expired"))
            continue
        return lease
    return None


def is_waiting(pool: str) -> bool:
    """Whether a job of the pool could be claimed."""
    return Job.objects.filter(pool=pool, state=State.QUEUED, cancel_requested_at=None).exists()


def _next(pool: str) -> Job | None:
    recent = (
        Job.objects.filter(organization=OuterRef("organization"))
        .filter(started_at__gt=_from_now(-_FAIR_WINDOW.total_seconds()))
        .order_by()
        .values("organization")
        .annotate(count=Count("pk"))
        .values("count")
    )
    return (
        Job.objects.filter(pool=pool, state=State.QUEUED, cancel_requested_at=None)
        .annotate(recent=Coalesce(Subquery(recent, output_field=IntegerField()), 0))
        .order_by("recent", "pk")
        .defer("curve")
        .first()
    )


def _take(lease: Lease) -> bool:
    changed = Job.objects.filter(
        pk=lease.job_id, state=State.QUEUED, attempt=lease.attempt - 1, cancel_requested_at=None
    ).update(
        state=State.STARTING,
        attempt=lease.attempt,
        lease_owner=lease.owner,
        lease_until=_from_now(settings.JOB_LEASE_SECONDS),
        started_at=Coalesce(F("started_at"), Now()),
    )
    return bool(changed)


def _hold_until() -> datetime:
    return datetime.now(UTC) + jobs.HOLD_AHEAD


def renew(lease: Lease) -> bool:
    """Stay the one who runs the job; False if that is over."""
    changed = _mine(lease).update(lease_until=_from_now(settings.JOB_LEASE_SECONDS))
    if changed and lease.hold_id is not None:
        holds.extend(lease.hold_id, _hold_until())
    return bool(changed)


def is_cancel_requested(lease: Lease) -> bool:
    """Whether somebody wants the job to stop."""
    return _mine(lease).filter(cancel_requested_at__isnull=False).exists()


def write(lease: Lease, **changes: Any) -> bool:
    """Write progress; False if the lease is lost."""
    return bool(_mine(lease).update(**changes))


def _mine(lease: Lease) -> JobQuerySet:
    return Job.objects.filter(pk=lease.job_id, attempt=lease.attempt, state__in=Job.RUNNING)


def finish(lease: Lease, ending: Ending) -> bool:
    """End the job and its hold in one transaction; False if the lease is lost."""
    with transaction.atomic():
        changed = _mine(lease).update(
            state=ending.state,
            finished_at=Now(),
            lease_owner="",
            lease_until=None,
            compute_ms=ending.compute_ms,
            metrics=dict(ending.metrics),
            error_code=ending.error_code,
            error_message=FAILURES.get(ending.error_code, ""),
        )
        if changed and lease.hold_id is not None:
            _charge(lease, lease.hold_id, ending)
    return bool(changed)


def _charge(lease: Lease, hold_id: UUID, ending: Ending) -> None:
    hold = Hold.objects.select_related("price_version").get(pk=hold_id)
    # No publisher has a part in compute: it is the platform's.
    terms = reports.Terms(plan_of(hold.price_version), 0, estimates.POLICY)
    report = reports.Report(
        hold_id=hold.pk,
        outcome=ending.outcome,
        terms=terms,
        quantities={"compute_ms": ending.compute_ms},
        organization_id=hold.organization_id,
        reserved_nanos=hold.reserved_nanos,
        accepted_at=hold.accepted_at,
        completed_at=datetime.now(UTC),
        failure=ending.error_code,
        run_us=ending.compute_ms * 1000,
        worker=lease.owner,
    )
    if not holds.capture(report):
        logger.error("Training %s ended after its hold %s had: not billed.", lease.job_id, hold.pk)


def release(lease: Lease) -> bool:
    """Give the job back so that another worker goes on with it; no loss is counted."""
    changed = _mine(lease).update(state=State.QUEUED, lease_owner="", lease_until=None)
    if changed:
        doorbell.ring(lease.pool)
    return bool(changed)


def lose(lease: Lease) -> bool:
    """Note that the runner died; the job waits again or, after too many losses, fails."""
    job = Job.objects.only("losses", "cancel_requested_at").get(pk=lease.job_id)
    if job.cancel_requested_at is not None:
        return finish(lease, Ending(State.CANCELED, "canceled", error_code="canceled"))
    if job.losses + 1 >= settings.JOB_MAX_ATTEMPTS:
        return finish(lease, failed("worker_lost"))
    changed = _mine(lease).update(
        state=State.QUEUED, losses=F("losses") + 1, lease_owner="", lease_until=None
    )
    if changed:
        doorbell.ring(lease.pool)
    return bool(changed)


def sweep() -> None:
    """Put right what dead workers, lost rings and crashes left behind; may run twice."""
    lost = Job.objects.filter(state__in=Job.RUNNING, lease_until__lt=Now())
    for job in lost.defer("curve"):
        logger.warning("Training %s lost its worker %s.", job.pk, job.lease_owner)
        lose(Lease(job.pk, job.attempt, job.lease_owner, job.hold_id, job.pool))
    waiting = Job.objects.filter(state=State.QUEUED)
    for job_id in waiting.filter(cancel_requested_at__isnull=False).values_list("pk", flat=True):
        jobs.end_waiting(job_id)
    for hold_id in waiting.filter(
        hold__state=Hold.State.AUTHORISED, hold__expires_at__lt=_from_now(1800)
    ).values_list("hold_id", flat=True):
        holds.extend(hold_id, _hold_until())
    for pool in set(waiting.values_list("pool", flat=True)):
        doorbell.ring(pool)
