"""Who cancels, who starts and who finishes first: one of them, and the money follows."""

from __future__ import annotations

import pytest

from accounts.models import Organization
from billing import budgets, settlement
from billing.models import UsageEvent
from billing.money import NANOS
from inference.asynchronous import claims, endings, running, snapshots
from inference.asynchronous.claims import Claim
from inference.models import Prediction
from tests import factories
from tests.inference.asynchronous.conftest import Accept

ROW = factories.ROW_NANOS


def claim() -> Claim:
    found = claims.claim("w1")
    assert found is not None
    return found


def spent(organization: Organization) -> int:
    settlement.settle()
    wallet = budgets.wallet(organization)
    assert wallet.held == 0
    return 5 * NANOS - wallet.available


def end(claimed: Claim) -> list[Prediction]:
    return endings.finish(
        [endings.Ran(one, "succeeded", {"a": 1}, 1, 1, "w1") for one in claimed.predictions]
    )


def test_what_waits_is_never_run_and_costs_nothing(
    accept: Accept, organization: Organization
) -> None:
    prediction = accept()

    assert endings.cancel(prediction)
    assert not endings.cancel(prediction)

    assert not running.run_next("w1")
    found = snapshots.as_json(Prediction.objects.get())
    assert (found["status"], found["error"]["code"]) == ("canceled", "canceled")
    assert found["cost"]["amount"] == "0"
    assert spent(organization) == 0


def test_what_loads_its_model_is_not_run_any_more(
    accept: Accept, organization: Organization
) -> None:
    kept, canceled = accept(), accept()
    claimed = claim()

    assert endings.cancel(canceled)

    assert [one.pk for one in claims.begin(claimed)] == [kept.pk]
    assert [one.pk for one in end(claimed)] == [kept.pk]
    assert spent(organization) == ROW


@pytest.mark.parametrize(("policy", "cost"), [({}, 0), ({"canceled": 50}, ROW // 2)])
def test_what_runs_costs_what_the_policy_says(
    accept: Accept,
    organization: Organization,
    policy: dict[str, int],
    cost: int,
) -> None:
    prediction = accept(version=factories.make_version(outcome_policy=policy))
    claimed = claim()
    claims.begin(claimed)

    assert endings.cancel(prediction)

    assert end(claimed) == []
    assert Prediction.objects.get().status == "canceled"
    assert spent(organization) == cost
    assert UsageEvent.objects.count() == bool(cost)


def test_what_has_ended_stays_as_it_is(accept: Accept, organization: Organization) -> None:
    prediction = accept()
    running.run_next("w1")

    assert not endings.cancel(prediction)

    assert Prediction.objects.get().status == "succeeded"
    assert spent(organization) == ROW


def test_a_synchronous_run_cannot_be_canceled(accept: Accept) -> None:
    prediction = accept()
    Prediction.objects.update(is_async=False, status="processing", turn=None)

    assert not endings.cancel(prediction)

    assert Prediction.objects.get().status == "processing"
