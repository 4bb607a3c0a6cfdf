"""The process dies between two lines: no accepted row is lost, none ends twice or costs twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Organization
from billing import budgets, crashes, settlement
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from inference.asynchronous import claims, endings, running, sweeping
from inference.models import Prediction
from tests import factories
from tests.inference.asynchronous.conftest import Accept


class DiedError(BaseException):
    """The end of a process."""


def die_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def point(reached: str) -> None:
        if reached == name:
            raise DiedError

    monkeypatch.setattr(crashes, "point", point)


def lose() -> None:
    """Do what the sweep does when the dead one's lease has run out."""
    Prediction.objects.filter(lease_until__isnull=False).update(
        lease_until=timezone.now() - timedelta(seconds=1)
    )
    sweeping.sweep()


def recover() -> None:
    """Do that, and what another worker does then."""
    lose()
    while running.run_next("w2"):
        sweeping.sweep()


@pytest.mark.parametrize("name", ["admit.reserved", "admit.stored", "async.stored"])
def test_a_gateway_that_dies_before_the_commit_has_accepted_nothing(
    accept: Accept, organization: Organization, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patched:
        die_at(patched, name)
        with pytest.raises(DiedError):
            accept()

    assert not Prediction.objects.exists()
    assert not Hold.objects.exists()
    assert budgets.wallet(organization).held == 0


def test_a_gateway_that_dies_before_it_rings_leaves_a_row_that_is_run(
    accept: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        die_at(patched, "async.accepted")
        with pytest.raises(DiedError):
            accept()

    recover()

    assert Prediction.objects.get().status == "succeeded"


@pytest.mark.parametrize(
    "name",
    [
        *("async.claimed", "async.begun", "async.stored_ends"),
        *("capture.ended", "capture.used", "async.finished", "async.committed"),
    ],
)
def test_a_worker_that_dies_anywhere_leaves_one_result_and_one_charge(
    accept: Accept, organization: Organization, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows = [accept(digit=digit) for digit in range(3)]
    with monkeypatch.context() as patched:
        die_at(patched, name)
        with pytest.raises(DiedError):
            running.run_next("w1")

    recover()

    found = Prediction.objects.order_by("pk")
    assert [one.status for one in found] == ["succeeded"] * len(rows)
    labels = [one.answer["output"]["label"] for one in found if one.answer]
    assert labels == ["0", "1", "2"]
    assert UsageEvent.objects.count() == 3
    settlement.settle()
    assert budgets.wallet(organization).available == 5 * NANOS - 3 * factories.ROW_NANOS


def test_whoever_cancels_and_dies_has_canceled_all_or_nothing(
    accept: Accept, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = accept()
    with monkeypatch.context() as patched:
        die_at(patched, "async.row_ended")
        with pytest.raises(DiedError):
            endings.cancel(waiting)

    assert Prediction.objects.get().status == "queued"
    assert Hold.objects.get().state == Hold.State.AUTHORISED
    claimed = claims.claim("w1")
    assert claimed is not None
    claims.begin(claimed)
    with monkeypatch.context() as patched:
        die_at(patched, "async.row_ended")
        with pytest.raises(DiedError):
            endings.cancel(waiting)
    assert endings.cancel(waiting)
    assert budgets.wallet(organization).available == 5 * NANOS - factories.ROW_NANOS
    settlement.settle()
    assert budgets.wallet(organization).available == 5 * NANOS
