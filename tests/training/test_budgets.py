"""Trainings and caps: what is left is said, whether it was accepted or refused."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from accounts.models import Organization
from billing import alerts, budgets
from billing.models import BudgetAlert
from training.models import Job

pytestmark = pytest.mark.usefixtures("books", "rings")
BODY = {"recipe": "linear-regression", "hyperparameters": {"epochs": 2}}


@pytest.fixture(autouse=True)
def _forget_refusals() -> None:
    alerts._noted.clear()


def test_a_training_that_was_accepted_says_what_is_left(
    client: APIClient, organization: Organization
) -> None:
    budgets.set_limit(organization, "day", 5, unit="calls")

    answer = client.post("/v1/trainings", BODY, format="json")

    assert answer.status_code == 201
    assert '"organization-day-calls";r=4;t=' in answer.headers["RateLimit"]
    assert answer.headers["RateLimit-Policy"] == '"organization-day-calls";q=5;w=86400'
    assert '"wallet";r="4.9' in answer.headers["Mercato-Budget"]


def test_a_training_that_a_cap_refused_says_which_and_is_noted(
    client: APIClient, organization: Organization
) -> None:
    budgets.set_limit(organization, "day", 0, unit="calls")

    answer = client.post("/v1/trainings", BODY, format="json")

    assert answer.status_code == 402
    assert answer.json()["error"]["code"] == "cap_reached"
    assert int(answer.headers["Retry-After"]) > 0
    assert '"organization-day-calls";r=0;t=' in answer.headers["RateLimit"]
    assert not Job.objects.exists()
    [alert] = BudgetAlert.objects.all()
    assert (alert.percent, alert.was_refused) == (100, True)
