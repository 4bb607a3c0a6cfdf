"""Starting and canceling trainings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.models import Organization
from billing import budgets
from billing.errors import InsufficientCreditError, OrganizationFrozenError
from billing.models import Hold
from inference.errors import NotCancelableError
from tests import factories
from training import estimates, jobs, leases
from training.errors import (
    InvalidHyperparameterError,
    InvalidNameError,
    JobLimitError,
    RecipeUnavailableError,
    TrainingTooLongError,
)
from training.models import Job
from training.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("books", "rings")
Start = Callable[..., Job]


def test_starting_sets_the_most_it_can_cost_aside(start: Start, organization: Organization) -> None:
    job = start()

    assert job.state == Job.State.QUEUED
    assert job.hold is not None
    # 50 microdollars per second.
    assert job.hold.reserved_nanos == job.max_seconds * 50_000
    assert budgets.wallet(organization).held == job.hold.reserved_nanos
    assert job.hold.source == Hold.Source.TRAINING


def test_a_worker_is_told_when_the_row_is_there(
    start: Start, rings: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        start()
        assert rings == []

    assert rings == ["cpu"]


def test_without_money_there_is_no_job(compute_price: None) -> None:
    poor = factories.make_organization(credit_nanos=1000)

    with pytest.raises(InsufficientCreditError):
        jobs.start(Caller(poor.pk, poor.slug), jobs.order("mnist-mlp"))

    assert not Job.objects.exists()
    assert not Hold.objects.exists()


def test_a_frozen_organization_starts_nothing(caller: Caller, organization: Organization) -> None:
    Organization.objects.filter(pk=organization.pk).update(is_frozen=True)

    with pytest.raises(OrganizationFrozenError):
        jobs.start(caller, jobs.order("mnist-mlp"))

    assert not Job.objects.exists()


def test_a_missing_framework_is_said_before_money_is_held(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.recipes.torch_learner.installed", lambda: False)

    with pytest.raises(RecipeUnavailableError):
        jobs.start(caller, jobs.order("digits-lstm"))

    assert not Hold.objects.exists()


def test_the_estimate_grows_with_the_epochs(compute_price: None) -> None:
    recipe = RECIPES["mnist-cnn"]

    def of(epochs: int) -> estimates.Estimate:
        wanted = jobs.order(recipe.name, hyperparameters={"epochs": epochs})
        return estimates.estimate(recipe.name, wanted.data, wanted.hyperparameters)

    short, long = of(10), of(300)
    assert short.seconds < long.seconds
    assert short.expected_nanos < short.reserved_nanos < long.reserved_nanos
    assert long.max_seconds == long.seconds * estimates.MARGIN


def test_a_training_that_would_take_too_long_is_refused(caller: Caller, settings: Any) -> None:
    settings.JOB_MAX_SECONDS = 10

    with pytest.raises(TrainingTooLongError):
        jobs.start(caller, jobs.order("mnist-cnn", hyperparameters={"epochs": 500}))


def test_an_organization_has_a_limit_of_open_trainings(caller: Caller, start: Start) -> None:
    for _ in range(jobs.MAX_OPEN):
        start()

    with pytest.raises(JobLimitError):
        start()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"hyperparameters": {"epochs": 0}}, InvalidHyperparameterError),
        ({"publish_as": "Not a name"}, InvalidNameError),
        ({"publish_as": "-x"}, InvalidNameError),
        ({"publish_as": "name\n"}, InvalidNameError),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], error: type[MercatoError]) -> None:
    with pytest.raises(error):
        jobs.order("mnist-mlp", **fields)


def test_a_waiting_training_is_canceled_for_nothing(start: Start) -> None:
    job = jobs.cancel(start())

    assert job.state == Job.State.CANCELED
    assert job.hold is not None
    assert (job.hold.state, job.hold.captured_nanos) == (Hold.State.VOIDED, None)
    assert leases.claim("cpu", "worker-1") is None


def test_a_running_training_is_asked_to_stop(start: Start) -> None:
    job = start()
    lease = leases.claim("cpu", "worker-1")
    assert lease is not None

    job = jobs.cancel(job)

    assert job.state == Job.State.STARTING
    assert leases.is_cancel_requested(lease)


def test_canceling_twice_changes_nothing(start: Start) -> None:
    job = jobs.cancel(start())
    finished_at = job.finished_at

    again = jobs.cancel(job)

    assert (again.state, again.finished_at) == (Job.State.CANCELED, finished_at)


def test_what_has_ended_cannot_be_canceled(start: Start) -> None:
    job = start()
    lease = leases.claim("cpu", "worker-1")
    assert lease is not None
    leases.finish(lease, leases.failed("internal_error"))

    with pytest.raises(NotCancelableError):
        jobs.cancel(job)


def test_a_wish_to_cancel_that_came_between_two_workers_is_kept(start: Start) -> None:
    job = start()
    Job.objects.filter(pk=job.pk).update(cancel_requested_at=job.created_at)

    assert leases.claim("cpu", "worker-1") is None
    leases.sweep()

    job.refresh_from_db()
    assert job.state == Job.State.CANCELED
