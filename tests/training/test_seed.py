"""The models every site starts with."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from accounts.models import Organization
from tests import factories
from tests.training.results import make_finished
from training import leases, publishing, seed
from training.models import Job
from training.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("compute_price", "rings")


@pytest.fixture
def mercato(db: None) -> Organization:
    """The organization whose models every site starts with."""
    return factories.make_organization(slug="mercato")


def test_all_are_missing_at_first_and_asked_for_once(mercato: Organization) -> None:
    assert seed.enqueue(mercato) == len(RECIPES)
    assert seed.enqueue(mercato) == len(RECIPES)

    assert sorted(Job.objects.values_list("publish_as", flat=True)) == sorted(RECIPES)
    assert all(publishing.may_ship(job) for job in Job.objects.all())
    # A machine ten times slower than ours gets its models as well.
    assert {job.max_seconds for job in Job.objects.all()} == {settings.JOB_MAX_SECONDS}
    assert seed.progress() == {
        "done": 0,
        "total": len(RECIPES),
        "failed": [],
        "running": "",
        "fraction": 0.0,
    }


def test_what_is_published_is_not_asked_for(mercato: Organization, data_folder: Path) -> None:
    publishing.publish(make_finished(mercato), "mnist-mlp")

    assert seed.enqueue(mercato) == len(RECIPES) - 1
    assert seed.progress()["done"] == 1


def test_the_running_one_and_the_failed_ones_are_told(mercato: Organization) -> None:
    seed.enqueue(mercato)
    first, second = (leases.claim("cpu", "worker") for _ in range(2))
    assert first is not None
    assert second is not None
    leases.finish(first, leases.failed("internal_error"))
    leases.write(second, progress={"fraction": 0.5})

    told = seed.progress()

    assert told["failed"] == [Job.objects.get(pk=first.job_id).publish_as]
    assert told["running"] == Job.objects.get(pk=second.job_id).publish_as
    assert told["fraction"] == 0.5
    assert seed.enqueue(mercato) == len(RECIPES)
    assert seed.progress()["failed"] == []


def test_a_tenants_model_of_the_same_name_is_not_shipped(organization: Organization) -> None:
    job = make_job(organization)

    assert not publishing.may_ship(job)


def make_job(organization: Organization) -> Job:
    return Job(organization=organization, recipe="digits-lstm", publish_as="digits-lstm")
