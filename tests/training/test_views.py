from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.keys import Caller
from accounts.models import Membership, Organization, User
from billing import holds, receipts, settlement
from billing.models import Hold
from catalog import prices
from tests.factories import make_organization, make_user
from tests.training.results import charge, keep, make_finished
from training import events, jobs
from training.estimates import Estimate
from training.models import Job

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
CHOICES = {
    "recipe": "mnist-mlp",
    "data_set": "digits",
    "optimizer": "adam",
    "learning_rate": "0.001",
    "batch_size": "32",
    "epochs": "12",
}


@pytest.fixture(autouse=True)
def _price() -> None:
    """$0.00005 per second of compute."""
    prices.add(sku="training.cpu", components={"compute_ms": (50_000, 1000)})


@pytest.fixture
def owner() -> User:
    return make_user()


@pytest.fixture
def organization(owner: User) -> Organization:
    return make_organization(owner=owner)


@pytest.fixture
def page(client: Client, owner: User, organization: Organization) -> Callable[[str], str]:
    """Open a page as the owner."""
    client.force_login(owner)

    def read(address: str) -> str:
        answer = client.get(address)
        assert answer.status_code == 200
        return answer.content.decode()

    return read


def make_job(organization: Organization, **changes: Any) -> Job:
    """Start a training through the site's own door, then set what the test is about."""
    caller = Caller(organization.pk, organization.slug)
    job, _is_new = jobs.start(caller, jobs.order("mnist-mlp", "digits", {"epochs": 12}))
    if changes:
        Job.objects.filter(pk=job.pk).update(**changes)
        job.refresh_from_db()
    return job


def test_the_receipt_of_a_training_adds_up(organization: Organization) -> None:
    """No publisher has a part of it, whatever the share of those who publish models."""
    job = make_job(organization)
    charge(job, 9_765)
    settlement.settle()
    assert job.hold is not None

    receipt = receipts.of(organization, job.hold.pk)

    assert receipts.verify(receipt).holds
    assert receipt.hold.publisher_bps == 0


# Starting ----------------------------------------------------------------------------------


def test_the_price_is_shown_before_the_start(page: Callable[[str], str]) -> None:
    shown = page("/console/trainings/new?recipe=mnist-mlp")

    assert "Takes about" in shown
    assert "Set aside at the start" in shown
    assert "Flatten → Dense 256" in shown


def test_the_estimate_follows_the_choices(client: Client, page: Callable[[str], str]) -> None:
    few = estimate(client, page, epochs="2")
    many = estimate(client, page, epochs="200")

    assert 0 < few.expected_nanos < many.expected_nanos
    assert few.seconds < many.seconds


def estimate(client: Client, page: Callable[[str], str], **changes: str) -> Estimate:
    answer = client.get("/console/trainings/estimate", CHOICES | changes)
    found: Estimate = answer.context["estimate"]
    return found


def test_a_start_sets_the_money_aside_and_opens_the_training(
    client: Client, page: Callable[[str], str], owner: User, organization: Organization
) -> None:
    expected = estimate(client, page)

    answer = client.post("/console/trainings/start", CHOICES)

    job = Job.objects.get()
    assert answer.headers["Location"] == f"/console/trainings/{job.pk}"
    assert (job.organization, job.user, job.recipe) == (organization, owner, "mnist-mlp")
    assert job.hyperparameters["learning_rate"] == "0.001"
    assert job.hold is not None
    assert job.hold.reserved_nanos == expected.reserved_nanos


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "magic"},
        {"learning_rate": "0"},
        {"learning_rate": "2"},
        {"learning_rate": "NaN"},
        {"batch_size": "1"},
        {"epochs": "0"},
        {"epochs": "many"},
        {"data_set": "line"},
        {"data_set": ""},
    ],
)
def test_a_wrong_choice_is_refused_and_costs_nothing(
    client: Client, page: Callable[[str], str], wrong: dict[str, str]
) -> None:
    answer = client.post("/console/trainings/start", CHOICES | wrong)

    assert answer.status_code == 422
    assert "field-error" in answer.content.decode()
    assert client.get("/console/trainings/estimate", CHOICES | wrong).status_code == 200
    assert not Job.objects.exists()
    assert not Hold.objects.exists()


def test_a_start_without_money_says_so_on_the_page(client: Client) -> None:
    person = make_user()
    make_organization(owner=person, credit_nanos=0)
    client.force_login(person)

    answer = client.post("/console/trainings/start", CHOICES)

    assert answer.status_code == 422
    assert "Your balance is lower than" in answer.content.decode()
    assert not Job.objects.exists()


def test_a_viewer_looks_but_starts_cancels_and_publishes_nothing(
    client: Client, organization: Organization
) -> None:
    person = make_user()
    Membership.objects.create(organization=organization, user=person, role=Membership.Role.VIEWER)
    job = make_job(organization)
    client.force_login(person)

    assert client.get("/console/trainings").status_code == 200
    assert client.get(f"/console/trainings/{job.pk}").status_code == 200
    for address in ["start", f"{job.pk}/cancel", f"{job.pk}/publish"]:
        assert client.post(f"/console/trainings/{address}", CHOICES).status_code == 403
    job.refresh_from_db()
    assert job.cancel_requested_at is None


# Watching ----------------------------------------------------------------------------------


def test_a_running_training_shows_progress_and_cost_so_far(
    page: Callable[[str], str], organization: Organization
) -> None:
    job = make_job(
        organization,
        state=Job.State.PROCESSING,
        started_at=timezone.now() - timedelta(seconds=10),
        progress={"epoch": 3, "epochs": 12, "fraction": 0.25, "seconds_left": 125.0},
        curve=[{"epoch": 1, "loss": 0.5, "val_loss": 0.4, "val_accuracy": 0.9, "seconds": 1}],
    )

    shown = page(f"/console/trainings/{job.pk}/live")

    assert "Epoch 3 of 12" in shown
    assert "about 2 min 5 s left" in shown
    assert 'value="25"' in shown
    assert "≈ $0.0005" in shown
    assert "data-ended" not in shown


def test_a_finished_training_shows_its_exact_charge_metrics_and_confusion(
    page: Callable[[str], str], organization: Organization
) -> None:
    matrix = [[0] * 10 for _ in range(10)]
    matrix[4] = [0, 0, 0, 0, 34, 0, 0, 0, 0, 2]
    job = make_job(
        organization,
        state=Job.State.SUCCEEDED,
        finished_at=timezone.now(),
        metrics={"accuracy": "0.9444", "loss": "0.2", "rows": 36, "confusion": matrix},
    )
    charge(job, 15_099)
    keep(job)

    shown = page(f"/console/trainings/{job.pk}")

    assert "$0.00075495<" in shown
    assert "0.9444" in shown
    assert 'class="shade-10 right-answer">34<' in shown
    assert 'class="shade-1">2<' in shown
    assert f'action="/console/trainings/{job.pk}/publish"' in shown


def test_a_failed_training_says_why_and_that_nothing_was_charged(
    page: Callable[[str], str], organization: Organization
) -> None:
    job = make_job(organization, state=Job.State.FAILED, error_code="training_diverged")
    assert holds.void(job.hold_id, "training_diverged")  # type: ignore[arg-type]  # it has one

    shown = page(f"/console/trainings/{job.pk}")

    assert "The loss became infinite" in shown
    assert "Nothing was charged." in shown


def test_another_tenants_training_does_not_exist(
    client: Client, page: Callable[[str], str]
) -> None:
    job = make_job(make_organization())

    assert str(job.pk) not in page("/console/trainings")
    for part in ["", "/live", "/events"]:
        assert client.get(f"/console/trainings/{job.pk}{part}").status_code == 404
    for part in ["/cancel", "/publish"]:
        assert client.post(f"/console/trainings/{job.pk}{part}").status_code == 404
    job.refresh_from_db()
    assert job.cancel_requested_at is None


def test_the_list_takes_as_many_queries_for_one_as_for_nine(
    page: Callable[[str], str], organization: Organization
) -> None:
    make_job(organization)
    with CaptureQueriesContext(connection) as for_one:
        page("/console/trainings")
    for _ in range(8):
        make_job(organization)

    with CaptureQueriesContext(connection) as for_nine:
        page("/console/trainings")

    assert len(for_nine) == len(for_one) <= 10


def test_events_tell_the_state_and_end_with_the_training(
    async_client: AsyncClient, owner: User, organization: Organization
) -> None:
    job = make_job(organization, state=Job.State.SUCCEEDED)
    charge(job, 1)
    async_client.force_login(owner)

    answer, text = async_to_sync(read_events)(async_client, f"/console/trainings/{job.pk}/events")

    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["X-Accel-Buffering"] == "no"
    names = [line.removeprefix("event: ") for line in text.splitlines() if "event: " in line]
    assert names == ["state", "end"]
    first = next(line for line in text.splitlines() if line.startswith("data: "))
    assert json.loads(first.removeprefix("data: ")) == events.snapshot(job)


async def read_events(client: AsyncClient, address: str) -> tuple[Any, str]:
    answer = await client.get(address)
    parts = [part.decode() async for part in answer]  # type: ignore[attr-defined]  # streams
    return answer, "".join(parts)


# Ending ------------------------------------------------------------------------------------


def test_a_waiting_training_is_canceled_and_its_money_is_free_again(
    client: Client, page: Callable[[str], str], organization: Organization
) -> None:
    job = make_job(organization)

    answer = client.post(f"/console/trainings/{job.pk}/cancel")

    assert answer.headers["Location"] == f"/console/trainings/{job.pk}"
    job.refresh_from_db()
    assert job.state == Job.State.CANCELED
    assert "Canceled" in page(f"/console/trainings/{job.pk}")
    assert Hold.objects.get().state == Hold.State.VOIDED


def test_canceling_what_has_ended_changes_nothing(
    client: Client, page: Callable[[str], str], organization: Organization
) -> None:
    job = make_job(organization, state=Job.State.SUCCEEDED)
    charge(job, 1)

    client.post(f"/console/trainings/{job.pk}/cancel")

    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED


@pytest.mark.parametrize(
    "wrong", [{"name": "My Model"}, {"name": ""}, {"title_en": ""}, {"price": "free"}]
)
def test_a_wrong_field_keeps_a_result_unpublished(
    client: Client, page: Callable[[str], str], organization: Organization, wrong: dict[str, str]
) -> None:
    job = make_job(organization, state=Job.State.SUCCEEDED, finished_at=timezone.now())
    charge(job, 1)
    keep(job)

    answer = publish(client, job, **wrong)

    assert answer.status_code == 422
    assert "field-error" in answer.content.decode()
    job.refresh_from_db()
    assert job.version is None


def test_a_result_whose_files_are_gone_cannot_be_published(
    client: Client, page: Callable[[str], str], organization: Organization
) -> None:
    job = make_job(organization, state=Job.State.SUCCEEDED, finished_at=timezone.now())
    charge(job, 1)

    answer = publish(client, job)

    assert answer.status_code == 422
    assert "no longer kept" in answer.content.decode()


def test_a_result_is_published_as_a_model_at_its_price(
    client: Client, page: Callable[[str], str], organization: Organization, data_folder: Path
) -> None:
    job = make_finished(organization)

    answer = publish(client, job, title_zh="数字", is_public="yes")

    job.refresh_from_db()
    assert job.version is not None
    model = job.version.model
    assert answer.headers["Location"] == f"/models/{organization.slug}/my-digits"
    assert (model.title_en, model.title_zh, model.is_public) == ("Digits", "数字", True)
    price = prices.current(model)
    assert price is not None
    assert [(c.dimension, c.amount_nanos) for c in price.components.all()] == [("row", 10_000)]
    assert "Open the model" in page(f"/console/trainings/{job.pk}")
    assert "/publish" not in page(f"/console/trainings/{job.pk}")


def publish(client: Client, job: Job, **changes: str) -> Any:
    fields = {
        "name": "my-digits",
        "title_en": "Digits",
        "summary_en": "Reads digits.",
        "price": "0.00001",
        "is_public": "no",
    }
    return client.post(f"/console/trainings/{job.pk}/publish", fields | changes)
