"""Trainings through real workers: killed, canceled, drained, published, charged once."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db.models.functions import Now

from billing.models import UsageEvent
from catalog import prices
from tests import factories
from tests.live import Site
from tests.training.conftest import COMPUTE_PRICE
from training import leases
from training.models import Job

BODY = {"recipe": "linear-regression"}
LONG = {"epochs": 150, "batch_size": 8}


class Tenant:
    """An organization with a key, and the site it calls."""

    def __init__(self, site: Site) -> None:
        prices.add(sku="training.cpu", components=COMPUTE_PRICE)
        self.organization = factories.make_organization()
        _, secret = factories.make_key(self.organization)
        self.site = site
        self.headers = {"Authorization": f"Bearer {secret}"}

    def start(self, **choices: Any) -> Job:
        answer = self.site.client.post(
            "/v1/trainings", json=BODY | {"hyperparameters": choices}, headers=self.headers
        )
        assert answer.status_code == 201, answer.text
        return Job.objects.get(pk=answer.json()["id"])

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.site.client.post(path, json=body or {}, headers=self.headers)

    def wait(self, job: Job, is_true: Callable[[Job], bool], seconds: float = 120) -> Job:
        def check() -> bool:
            job.refresh_from_db()
            return is_true(job)

        self.site.wait_until(check, seconds=seconds)
        return job

    def wait_ended(self, job: Job) -> Job:
        return self.wait(job, lambda row: row.state in Job.TERMINAL)

    def wait_learning(self, job: Job) -> Job:
        return self.wait(job, lambda row: len(row.curve) > 2)

    def costs(self, job: Job) -> list[int]:
        return list(
            UsageEvent.objects.filter(hold=job.hold_id).values_list("cost_nanos", flat=True)
        )


@pytest.fixture
def tenant(site: Site) -> Tenant:
    """A tenant of a site with a job worker."""
    site.start_jobs()
    return Tenant(site)


def runner_of(job: Job) -> int:
    """Return the process that trains a job: the one whose log is in the attempt's folder."""
    log = settings.DATA / "jobs" / str(job.pk) / f"a{job.attempt}" / "log"
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _writes_to(process, log):
            return int(process.name)
    raise AssertionError(f"No process writes to {log}.")


def _writes_to(process: Path, log: Path) -> bool:
    try:
        return (process / "fd" / "2").readlink() == log
    except OSError:
        return False


def test_a_tenant_trains_watches_publishes_and_calls_a_model_of_its_own(tenant: Tenant) -> None:
    job = tenant.start(epochs=30)
    with tenant.site.client.stream(
        "GET", f"/v1/trainings/{job.pk}/events", headers=tenant.headers
    ) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        heard = [line.removeprefix("event: ") for line in stream.iter_lines() if "event: " in line]

    job = tenant.wait_ended(job)
    answer = tenant.post(f"/v1/trainings/{job.pk}/publish", {"name": "line"})
    called = tenant.post(
        "/v1/predictions", {"model": f"{tenant.organization.slug}/line", "input": {"x": [4]}}
    )

    assert heard[0] == "state"
    assert heard[-1] == "end"
    assert "epoch" in heard
    assert job.state == Job.State.SUCCEEDED
    assert [point["epoch"] for point in job.curve] == list(range(1, 31))
    assert tenant.costs(job) == [job.compute_ms * 50]
    assert answer.json()["version"] == f"{tenant.organization.slug}/line:1"
    assert called.status_code == 200, called.text
    assert abs(called.json()["output"]["y"][0] - 14) < 0.5


def test_a_runner_that_is_killed_ends_in_a_finished_run_and_one_charge(tenant: Tenant) -> None:
    job = tenant.wait_learning(tenant.start(**LONG))

    os.kill(runner_of(job), signal.SIGKILL)
    job = tenant.wait_ended(job)

    assert (job.state, job.attempt, job.losses) == (Job.State.SUCCEEDED, 2, 1)
    assert [point["epoch"] for point in job.curve] == list(range(1, 151))
    assert tenant.costs(job) == [job.compute_ms * 50]


def test_a_job_worker_that_is_killed_ends_in_a_finished_run_and_one_charge(
    tenant: Tenant,
) -> None:
    job = tenant.wait_learning(tenant.start(**LONG))
    runner = os.pidfd_open(runner_of(job))

    tenant.site.kill("job")
    tenant.site.wait_until(lambda: _has_ended(runner), seconds=20)
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))
    leases.sweep()
    tenant.site.start_jobs()
    job = tenant.wait_ended(job)

    assert (job.state, job.attempt, job.losses) == (Job.State.SUCCEEDED, 2, 1)
    assert tenant.costs(job) == [job.compute_ms * 50]


def _has_ended(handle: int) -> bool:
    return bool(select.select([handle], [], [], 0)[0])


def test_a_running_training_is_canceled_and_pays_for_what_ran(tenant: Tenant) -> None:
    job = tenant.wait_learning(tenant.start(**LONG))

    answer = tenant.post(f"/v1/trainings/{job.pk}/cancel")
    job = tenant.wait_ended(job)

    assert answer.json()["cancel_requested"] is True
    assert job.state == Job.State.CANCELED
    assert len(job.curve) < 150
    assert tenant.costs(job) == [job.compute_ms * 50]
    assert job.compute_ms > 0
    assert tenant.post(f"/v1/trainings/{job.pk}/cancel").json()["status"] == "canceled"


def test_a_worker_that_shuts_down_leaves_its_training_to_the_next(tenant: Tenant) -> None:
    job = tenant.wait_learning(tenant.start(**LONG))
    worker = tenant.site._processes["job"]

    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=60)
    job.refresh_from_db()
    assert (job.state, job.losses) == (Job.State.QUEUED, 0)
    tenant.site.start_jobs()
    job = tenant.wait_ended(job)

    assert (job.state, job.attempt, job.losses) == (Job.State.SUCCEEDED, 2, 0)
    assert tenant.costs(job) == [job.compute_ms * 50]


def test_a_lease_that_is_lost_ends_the_old_runner(tenant: Tenant) -> None:
    job = tenant.wait_learning(tenant.start(**LONG))
    runner = os.pidfd_open(runner_of(job))
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))

    leases.sweep()

    tenant.site.wait_until(lambda: _has_ended(runner), seconds=20)
    job = tenant.wait_ended(job)
    assert (job.state, job.attempt) == (Job.State.SUCCEEDED, 2)
    assert tenant.costs(job) == [job.compute_ms * 50]


def test_the_charge_of_a_training_is_on_the_usage_list(tenant: Tenant) -> None:
    job = tenant.wait_ended(tenant.start(epochs=1))

    usage = tenant.site.client.get("/v1/usage", headers=tenant.headers).json()

    assert len(usage["data"]) == 1
    assert usage["data"][0]["id"] == str(job.hold_id)
