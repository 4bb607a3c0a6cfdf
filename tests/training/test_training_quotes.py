"""Quotes and ceilings of trainings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.keys import Caller
from accounts.models import Organization
from billing import price_changes
from billing.errors import CostCeilingError
from billing.models import Hold
from catalog import prices
from catalog.models import ModelVersion
from tests import factories
from training import estimates, jobs, leases
from training.leases import Ending
from training.models import Job

pytestmark = pytest.mark.usefixtures("books", "rings")

PATH = "/v1/quotes"

LINE = {"recipe": "linear-regression", "hyperparameters": {"epochs": 2}}


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


def post(client: APIClient, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, body, format="json", headers=headers)


def quote_of(client: APIClient, body: Any) -> dict[str, Any]:
    answer = post(client, PATH, body)
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def test_a_training_is_quoted_and_keeps_its_price(
    client: APIClient, organization: Organization
) -> None:
    body = quote_of(client, {"training": LINE})
    prices.add(sku="training.cpu", components={"compute_ms": (10**6, 1)})

    job = post(client, "/v1/trainings", {**LINE, "quote": body["id"]}).json()

    assert job["cost"]["reserved"] == body["amount"]
    assert job["cost"]["price_version"] == body["price_version"]
    assert client.get(f"{PATH}/{body['id']}").json()["hold"] == job["cost"]["hold"]
    again = post(client, "/v1/trainings", {**LINE, "quote": body["id"]})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "quote_not_valid")
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    "other",
    [{"recipe": "linear-regression", "hyperparameters": {"epochs": 3}}, {"recipe": "mnist-mlp"}],
)
def test_a_quote_is_for_one_training(client: APIClient, other: Any) -> None:
    body = quote_of(client, {"training": LINE})

    answer = post(client, "/v1/trainings", {**other, "quote": body["id"]})

    assert answer.json()["error"]["code"] == "quote_not_valid"
    assert not Hold.objects.exists()


def test_a_quote_for_a_model_starts_no_training(client: APIClient, version: ModelVersion) -> None:
    body = quote_of(client, {"model": version.path, "rows": 1})

    answer = post(client, "/v1/trainings", {**LINE, "quote": body["id"]})

    assert answer.json()["error"]["code"] == "quote_not_valid"


def test_a_training_is_stopped_where_its_ceiling_is(client: APIClient) -> None:
    """50 microdollars a second: for 0.005 a training may take a hundred seconds."""
    free = post(client, "/v1/trainings", LINE).json()
    assert free["cost"]["reserved"] == "0.006"

    job = post(client, "/v1/trainings", LINE, **{"Mercato-Max-Cost": "0.00504"}).json()

    assert job["cost"]["reserved"] == "0.005"
    assert Job.objects.get(pk=job["id"]).max_seconds == 100


def test_a_ceiling_above_the_reservation_changes_nothing(client: APIClient) -> None:
    job = post(client, "/v1/trainings", LINE, **{"Mercato-Max-Cost": "1"}).json()

    assert job["cost"]["reserved"] == "0.006"


@pytest.mark.parametrize(
    ("ceiling", "status", "code"),
    [
        ("0.00299", 402, "max_cost_exceeded"),
        ("0", 402, "max_cost_exceeded"),
        ("-1", 400, "invalid_request"),
        ("much", 400, "invalid_request"),
    ],
)
def test_less_than_a_minute_is_refused(
    client: APIClient, ceiling: str, status: int, code: str
) -> None:
    answer = post(client, "/v1/trainings", LINE, **{"Mercato-Max-Cost": ceiling})

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert not Hold.objects.exists()


def test_a_training_never_costs_more_than_its_ceiling(caller: Caller) -> None:
    wanted = jobs.order("linear-regression", hyperparameters={"epochs": 2})
    wanted = _with_ceiling(wanted, 4_000_000)
    job, _ = jobs.start(caller, wanted)
    lease = leases.claim("cpu", "worker")
    assert lease is not None

    leases.finish(lease, Ending(Job.State.SUCCEEDED, "succeeded", compute_ms=500_000))

    job.refresh_from_db()
    assert job.hold is not None
    assert job.hold.captured_nanos == 4_000_000


def _with_ceiling(wanted: jobs.Order, nanos: int) -> jobs.Order:
    return replace(wanted, ceiling_nanos=nanos)


def test_the_longest_time_that_fits_is_found_with_tiers(compute_price: None) -> None:
    prices.add(
        sku="training.cpu",
        components={"compute_ms": [(0, 100_000, 1000), (70_000, 10_000, 1000)]},
    )
    wanted = jobs.order("linear-regression", hyperparameters={"epochs": 2})
    found = estimates.estimate(wanted.recipe, wanted.data, wanted.hyperparameters)

    shrunk = estimates.within(found, 7_200_000)

    assert (shrunk.max_seconds, shrunk.reserved_nanos) == (90, 7_200_000)
    with pytest.raises(CostCeilingError):
        estimates.within(found, 5_999_999)


def test_a_training_is_priced_by_the_instant_it_is_admitted(
    compute_price: None, start: Callable[..., Job]
) -> None:
    """Invariant 24: the price of training that begins tomorrow does not apply today."""
    old = prices.current_sku("training.cpu")
    tomorrow = timezone.now() + timedelta(days=1)
    new = prices.add(sku="training.cpu", components={"compute_ms": (1, 1)}, effective_from=tomorrow)

    assert prices.current_sku("training.cpu", tomorrow) == new
    assert prices.current_sku("training.cpu", tomorrow - timedelta(microseconds=1)) == old
    hold = start().hold
    assert hold is not None
    assert hold.price_version == old
    assert price_changes.at(price_changes.Target(sku="training.cpu"), tomorrow) == new
