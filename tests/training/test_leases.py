"""Who may run a job, and what happens when a worker dies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from accounts.keys import Caller
from accounts.models import Organization
from billing import budgets, holds
from billing.models import Hold, UsageEvent
from tests import factories
from training import jobs, leases
from training.leases import Ending, Lease
from training.models import Job

pytestmark = pytest.mark.usefixtures("books", "rings")
Start = Callable[..., Job]

SUCCEEDED = Ending(Job.State.SUCCEEDED, "succeeded", compute_ms=1500, metrics={"loss": "0.1"})


def claimed() -> Lease:
    lease = leases.claim("cpu", "worker-1")
    assert lease is not None
    return lease


def expire(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))


def usage(job: Job) -> list[int]:
    return list(UsageEvent.objects.filter(hold=job.hold).values_list("cost_nanos", flat=True))


def state(job: Job) -> str:
    job.refresh_from_db()
    return job.state


def test_a_job_is_claimed_once(start: Start) -> None:
    job = start()

    first = claimed()

    assert (first.job_id, first.attempt) == (job.pk, 1)
    assert leases.claim("cpu", "worker-2") is None
    assert state(job) == Job.State.STARTING
    assert job.lease_until is not None


def test_another_pool_is_not_claimed(start: Start) -> None:
    start()

    assert leases.claim("gpu", "worker-1") is None


def test_the_organization_that_started_little_comes_first(start: Start) -> None:
    busy = [start(), start()]
    claimed()
    quiet = factories.make_organization()
    wanted = jobs.order("linear-regression")
    other, _ = jobs.start(Caller(quiet.pk, quiet.slug), wanted)

    assert claimed().job_id == other.pk
    assert {claimed().job_id} <= {job.pk for job in busy}


def test_a_finished_job_is_charged_once_with_its_end(
    start: Start, organization: Organization
) -> None:
    job = start()
    lease = claimed()

    assert leases.finish(lease, SUCCEEDED)
    assert not leases.finish(lease, SUCCEEDED)

    assert state(job) == Job.State.SUCCEEDED
    assert usage(job) == [75_000]
    assert job.compute_ms == 1500
    assert job.hold is not None
    assert job.hold.state == Hold.State.CAPTURED


def test_compute_is_the_platforms_revenue_alone(start: Start) -> None:
    job = start()
    leases.finish(claimed(), SUCCEEDED)

    event = UsageEvent.objects.get(hold=job.hold)
    assert (event.publisher_nanos, event.platform_nanos) == (0, 75_000)


@pytest.mark.parametrize(
    ("ending", "cost"),
    [
        (Ending(Job.State.CANCELED, "canceled", 2000, "canceled"), [100_000]),
        (Ending(Job.State.CANCELED, "canceled", 0, "canceled"), []),
        (leases.failed("training_diverged", outcome="model_error", compute_ms=2000), []),
        (leases.failed("compute_limit_reached", compute_ms=2000), []),
        (leases.failed("worker_lost"), []),
    ],
)
def test_each_ending_costs_what_the_policy_says(
    start: Start, ending: Ending, cost: list[int]
) -> None:
    job = start()

    leases.finish(claimed(), ending)

    assert state(job) == ending.state
    assert usage(job) == cost
    assert job.error_code == ending.error_code


def test_a_run_never_costs_more_than_was_reserved(start: Start) -> None:
    job = start()
    assert job.hold is not None

    leases.finish(claimed(), Ending(Job.State.SUCCEEDED, "succeeded", compute_ms=10**9))

    assert usage(job) == [job.hold.reserved_nanos]


def test_a_lost_lease_goes_to_another_worker_and_the_first_can_write_nothing(
    start: Start,
) -> None:
    job = start()
    zombie = claimed()
    expire(job)

    leases.sweep()
    second = claimed()

    assert (second.attempt, second.job_id) == (2, job.pk)
    assert not leases.renew(zombie)
    assert not leases.write(zombie, progress={"fraction": 0.9})
    assert not leases.finish(zombie, SUCCEEDED)
    assert not leases.release(zombie)
    assert not leases.lose(zombie)
    assert state(job) == Job.State.STARTING
    assert leases.finish(second, SUCCEEDED)
    assert usage(job) == [75_000]


def test_a_lease_that_is_renewed_is_not_swept(start: Start) -> None:
    job = start()
    lease = claimed()
    expire(job)

    assert leases.renew(lease)
    leases.sweep()

    assert state(job) == Job.State.STARTING
    assert job.attempt == 1


def test_a_job_that_kills_its_workers_fails_and_costs_nothing(
    start: Start, settings: Any, organization: Organization
) -> None:
    settings.JOB_MAX_ATTEMPTS = 3
    job = start()
    for _ in range(3):
        claimed()
        expire(job)
        leases.sweep()

    assert state(job) == Job.State.FAILED
    assert (job.error_code, job.attempt) == ("worker_lost", 3)
    assert usage(job) == []
    assert job.hold is not None
    assert job.hold.state == Hold.State.VOIDED
    assert leases.claim("cpu", "worker-1") is None


def test_a_drained_worker_is_no_loss(start: Start, settings: Any) -> None:
    settings.JOB_MAX_ATTEMPTS = 2
    job = start()
    for _ in range(5):
        assert leases.release(claimed())

    assert state(job) == Job.State.QUEUED
    assert (job.attempt, job.losses) == (5, 0)


def test_a_canceled_job_whose_worker_died_is_canceled_for_nothing(start: Start) -> None:
    job = start()
    claimed()
    jobs.cancel(job)
    expire(job)

    leases.sweep()

    assert state(job) == Job.State.CANCELED
    assert usage(job) == []


def test_the_sweep_rings_for_what_waits(start: Start, rings: list[str]) -> None:
    start()
    start()
    rings.clear()

    leases.sweep()

    assert rings == ["cpu"]


def test_the_hold_of_a_waiting_job_does_not_expire(start: Start) -> None:
    job = start()
    Hold.objects.filter(training=job).update(expires_at=Now() + timedelta(seconds=60))

    leases.sweep()

    assert Hold.objects.get(training=job).expires_at - job.created_at > timedelta(minutes=30)


def test_renewing_keeps_the_hold_alive(start: Start) -> None:
    job = start()
    lease = claimed()
    Hold.objects.filter(training=job).update(expires_at=Now() + timedelta(seconds=60))

    leases.renew(lease)

    hold = Hold.objects.get(training=job)
    assert hold.expires_at - job.created_at > timedelta(minutes=30)


def test_a_job_whose_hold_has_ended_does_not_run(start: Start) -> None:
    job = start()
    assert job.hold_id is not None
    holds.void(job.hold_id, "worker_lost")

    assert leases.claim("cpu", "worker-1") is None

    assert state(job) == Job.State.FAILED
    assert job.error_code == "hold_expired"
    assert usage(job) == []


def test_money_is_free_again_after_a_failure(start: Start, organization: Organization) -> None:
    job = start()
    before = budgets.wallet(organization).held

    leases.finish(claimed(), leases.failed("internal_error"))

    assert before > 0
    assert state(job) == Job.State.FAILED
