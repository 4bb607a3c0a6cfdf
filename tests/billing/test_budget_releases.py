"""What budgets are given back, and caps that change while calls run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.errors import MercatoError
from accounts.models import Organization
from billing import alerts, budgets, holds, rollups, settlement
from billing.models import Budget, Hold
from catalog.models import ModelVersion
from tests import factories
from tests.billing.calls import attempt, prove, reserve, succeed
from tests.billing.threads import numbered

ROW = factories.ROW_NANOS


# Releases ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("ending", ["void", "expire", "capture"])
def test_however_a_run_ends_its_budgets_are_given_back(
    organization: Organization, version: ModelVersion, ending: str
) -> None:
    """Regression 2: BerriAI/litellm#27639, #29493, reservations that are never released."""
    budgets.set_limit(organization, "day", 1, unit="calls")
    if ending == "capture":
        succeed(organization, version)
    else:
        made = reserve(organization, version)
        if ending == "void":
            holds.void(made.hold_id, "model_error")
        else:
            Hold.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
            assert holds.expire_due() == 1
    settlement.settle()

    assert not Budget.objects.exclude(held=0).exists()
    # A call that failed is not counted; one that succeeded is.
    assert attempt(organization, version) is (ending != "capture")


@pytest.mark.usefixtures("books")
def test_a_cap_never_refuses_while_there_is_room(
    organization: Organization, version: ModelVersion
) -> None:
    """Regression 4: BerriAI/litellm#30460, #36926, #40050, a counter above what was spent."""
    budgets.set_limit(organization, "month", 10 * ROW)
    for number in range(30):
        made = reserve(organization, version, rows=2)
        holds.void(made.hold_id, "model_error")
        if number % 3 == 0:
            settlement.settle()
    settlement.settle()

    assert [attempt(organization, version) for _ in range(11)] == [True] * 10 + [False]


class CutOffError(Exception):
    """The settler fails here."""


def settle_with_failures(
    organization: Organization,
    version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    verb: str,
) -> None:
    rule = budgets.set_limit(organization, "month", 10 * ROW)
    succeed(organization, version, rows=3)

    def fail(*_: Any) -> None:
        raise CutOffError

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(module, verb, fail)
            with pytest.raises(CutOffError):
                settlement.settle()
        row = budgets.current(organization, rule)
        assert (row.held, row.posted) == (3 * ROW, 0)

    settlement.settle()
    settlement.settle()

    row = budgets.current(organization, rule)
    assert (row.held, row.posted) == (0, 3 * ROW)


@pytest.mark.usefixtures("books")
def test_a_settler_that_fails_half_way_counts_once_when_it_is_done_again(
    organization: Organization, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression 5: BerriAI/litellm#35569, #35570, counted twice, or marked and not counted."""
    settle_with_failures(organization, version, monkeypatch, alerts, "raise_for")


@pytest.mark.usefixtures("books")
def test_usage_stays_queued_until_it_is_written(
    organization: Organization, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression 7: BerriAI/litellm#32618, the queue is emptied before the write has happened."""
    settle_with_failures(organization, version, monkeypatch, rollups, "add")


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("unit", ["money", "calls"])
def test_a_cap_lowered_below_use_lets_running_runs_end_and_refuses_new_ones(
    organization: Organization, version: ModelVersion, unit: str
) -> None:
    """Invariant 29: running holds finish, new ones are refused, nothing held is negative."""
    one = {"money": ROW, "calls": 1}[unit]
    rule = budgets.set_limit(organization, "month", 10 * one, unit=unit)
    succeed(organization, version)
    running = [reserve(organization, version) for _ in range(3)]

    budgets.set_limit(organization, "month", 2 * one, unit=unit)
    assert not attempt(organization, version)
    for made in running[:2]:
        holds.void(made.hold_id, "model_error")
    settlement.settle()

    row = budgets.current(organization, rule)
    assert (row.posted, row.held, row.available) == (one, one, 0)
    assert not attempt(organization, version)
    holds.void(running[2].hold_id, "model_error")
    settlement.settle()
    assert attempt(organization, version)
    budgets.set_limit(organization, "month", 0, unit=unit)
    with pytest.raises(MercatoError, match=f"organization-month{'-calls' * (unit == 'calls')}"):
        reserve(organization, version)


@pytest.mark.django_db(transaction=True)
def test_a_cap_that_is_changed_under_load_is_never_passed_by_what_comes_after() -> None:
    """Invariant 29: with threads, in money and in calls."""
    organization, version = factories.make_organization(), factories.make_version()
    rules = [
        budgets.set_limit(organization, "month", 40 * ROW),
        budgets.set_limit(organization, "month", 40, unit="calls"),
    ]

    def act(number: int) -> int:
        if number == 0:
            for limit in (30, 10, 5):
                budgets.set_limit(organization, "month", limit * ROW)
                budgets.set_limit(organization, "month", limit, unit="calls")
            return 0
        return sum(attempt(organization, version) for _ in range(5))

    numbered(8, act)
    after = [budgets.current(organization, rule) for rule in rules]

    assert not attempt(organization, version) or all(row.available > 0 for row in after)
    for hold in Hold.objects.all():
        holds.void(hold.pk, "model_error")
    prove()
    assert not Budget.objects.exclude(held=0).exists()
