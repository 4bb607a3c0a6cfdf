"""Budgets and limits: one row per window, whatever races; a cap that cannot be passed."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import ApiKey, Organization
from billing import budgets, holds, settlement
from billing.errors import CapReachedError, InsufficientCreditError
from billing.models import Budget, Hold, SpendLimit, Unit
from billing.models.budgets import WITHIN_CAPACITY
from catalog.models import ModelVersion
from tests import factories
from tests.billing.calls import attempt, prove, reserve, succeed
from tests.billing.threads import numbered

ROW = factories.ROW_NANOS


@pytest.mark.parametrize("with_key", [False, True])
def test_the_database_refuses_a_second_row_for_a_window(
    organization: Organization, with_key: bool
) -> None:
    key = factories.make_key(organization)[0] if with_key else None
    limit = budgets.set_limit(organization, "month", 10**9, api_key=key)
    row = budgets.current(organization, limit)

    for twin in (limit, row):
        twin.pk = None
        twin._state.adding = True
        with pytest.raises(IntegrityError), transaction.atomic():
            twin.save()


@pytest.mark.django_db(transaction=True)
def test_parallel_first_calls_open_each_budget_once() -> None:
    organization = factories.make_organization(credit_nanos=0)
    key, _ = factories.make_key(organization)

    def first_call(_: int) -> tuple[budgets.Member, ...]:
        budgets._cache.clear()
        try:
            return budgets.refs(organization.pk, key.pk, datetime.now(UTC)).members
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(first_call, range(16)))

    assert len(found) == 1
    assert Budget.objects.filter(organization=organization).count() == 2
    assert SpendLimit.objects.filter(organization=organization).count() == 1


def test_a_lower_limit_holds_at_once(organization: Organization) -> None:
    limit = budgets.set_limit(organization, "month", 10**9)
    row = budgets.current(organization, limit)

    budgets.set_limit(organization, "month", 5)

    row.refresh_from_db()
    assert row.capacity == 5


def test_a_cap_of_its_own_leaves_the_sites_monthly_cap(organization: Organization) -> None:
    budgets.set_limit(organization, "day", 5, unit="calls")

    found = {(rule.window, rule.unit) for rule in budgets.limits(organization)}

    assert found == {("day", "calls"), ("month", "money")}


def test_a_cap_that_was_removed_binds_nobody_and_does_not_come_back(
    organization: Organization, version: ModelVersion
) -> None:
    budgets.set_limit(organization, "month", 0)
    assert not attempt(organization, version)

    budgets.set_limit(organization, "month", None)
    budgets._cache.clear()

    assert attempt(organization, version)
    assert budgets.limits(organization) == []


# Windows -----------------------------------------------------------------------------------

LAST = datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC)

FIRST = datetime(2026, 11, 1, tzinfo=UTC)

LEAP = datetime(2028, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("offset", [-12, 0, 14])
@pytest.mark.parametrize(
    ("before", "after", "days", "months"),
    [
        (LAST, FIRST, ("2026-10-31", "2026-11-01"), ("2026-10-01", "2026-11-01")),
        (
            LEAP,
            LEAP.replace(microsecond=0) + timedelta(seconds=1),
            ("2028-02-29", "2028-03-01"),
            ("2028-02-01", "2028-03-01"),
        ),
        (LEAP - timedelta(days=1), LEAP, ("2028-02-28", "2028-02-29"), ("2028-02-01",)),
    ],
)
def test_a_run_at_midnight_falls_into_one_and_only_one_window(
    organization: Organization,
    version: ModelVersion,
    before: datetime,
    after: datetime,
    days: tuple[str, ...],
    months: tuple[str, ...],
    offset: int,
) -> None:
    """Invariant 24: 23:59:59.999999 and 00:00:00 in one window each, wherever the clock stands."""
    place = timezone(timedelta(hours=offset))
    for unit in Unit.values:
        for window in ("day", "month", "lifetime"):
            budgets.set_limit(organization, window, 10**9, unit=unit)

    for instant in (before, after):
        succeed(organization, version, at=instant.astimezone(place))
    settlement.settle()

    def used(window: str, unit: str) -> dict[str, int]:
        rows = Budget.objects.filter(
            organization=organization, window=window, unit=unit, lock_rank=2, posted__gt=0
        )
        return {str(row.window_start): row.posted for row in rows}

    for unit, each in [("money", ROW), ("calls", 1)]:
        assert used("day", unit) == dict.fromkeys(days, each)
        share = 2 * each // len(months)
        assert used("month", unit) == dict.fromkeys(months, share)
        assert used("lifetime", unit) == {"1970-01-01": 2 * each}


@pytest.mark.usefixtures("books")
def test_a_window_that_is_opened_late_counts_only_its_own_runs(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 24: what the next window has used is not used in this one as well."""
    budgets.set_limit(organization, "month", None)
    for instant in (LAST, FIRST, FIRST):
        succeed(organization, version, at=instant)
    rule = SpendLimit(organization=organization, window="day", unit="calls", amount=10)

    yesterday = budgets.current(organization, rule, LAST)
    today = budgets.current(organization, rule, FIRST)

    assert (yesterday.spent_before, today.spent_before) == (1, 2)


@pytest.mark.usefixtures("books")
def test_a_run_over_midnight_is_settled_in_the_window_that_accepted_it(
    organization: Organization, version: ModelVersion
) -> None:
    """Regression 3: BerriAI/litellm#30330, a hold on a counter that is reset goes negative."""
    rule = budgets.set_limit(organization, "day", 2 * ROW)
    running = reserve(organization, version, rows=2, at=LAST)
    budgets._cache.clear()

    assert attempt(organization, version, rows=2, at=FIRST)  # the next window is empty
    holds.void(running.hold_id, "model_error")
    settlement.settle()

    before, after = (
        budgets.current(organization, rule, LAST),
        budgets.current(organization, rule, FIRST),
    )
    assert (before.held, before.posted) == (0, 0)
    assert (after.held, after.posted) == (2 * ROW, 0)
    assert attempt(organization, version, rows=2, at=LAST)


@pytest.mark.django_db(transaction=True)
def test_parallel_first_runs_of_a_window_are_all_counted() -> None:
    """Regression 6: BerriAI/litellm#34733, a concurrent reset of the window loses spend."""
    organization, version = factories.make_organization(), factories.make_version()
    rule = budgets.set_limit(organization, "day", 100 * ROW)

    def first(_: int) -> bool:
        budgets._cache.clear()
        return attempt(organization, version, at=FIRST)

    assert numbered(8, first) == [True] * 8
    assert budgets.current(organization, rule, FIRST).held == 8 * ROW
    prove()


# Caps under load -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(4))
def test_no_cap_is_passed_at_any_instant(seed: int) -> None:
    """Invariant 3: threads against random caps of three nested budgets, in money and in calls."""
    dice = random.Random(seed)
    organization = factories.make_organization(credit_nanos=dice.randint(5, 60) * ROW)
    version = factories.make_version()
    keys = [factories.make_key(organization)[0] for _ in range(2)]
    for key in (*keys, None):
        for window in SpendLimit.Window.values:
            budgets.set_limit(organization, window, dice.randint(5, 60) * ROW, api_key=key)
            budgets.set_limit(organization, window, dice.randint(5, 60), unit="calls", api_key=key)
    is_over, passed = threading.Event(), list[int]()

    def watch() -> None:
        while not is_over.wait(0.002):
            passed.extend(Budget.objects.exclude(WITHIN_CAPACITY).values_list("pk", flat=True))
        connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        numbered(8, lambda number: _many_runs(seed * 100 + number, organization, version, keys))
    finally:
        is_over.set()
        watcher.join()

    assert passed == []
    prove()
    # Nothing leaked: what is free can be used up to the last row.
    budgets._cache.clear()
    room = min(
        row.available if row.unit == Unit.CALLS else row.available // ROW
        for row in Budget.objects.filter(
            pk__in=[
                member.budget_id
                for member in budgets.refs(organization.pk, keys[0].pk, datetime.now(UTC)).members
            ]
        )
    )
    assert sum(attempt(organization, version, key=keys[0]) for _ in range(room + 1)) == room
    prove()


def _many_runs(
    seed: int, organization: Organization, version: ModelVersion, keys: list[ApiKey]
) -> None:
    dice = random.Random(seed)
    for _ in range(10):
        key, rows = dice.choice(keys), dice.randint(1, 4)
        try:
            if dice.random() < 0.5:
                succeed(organization, version, key=key, rows=rows)
            else:
                made = reserve(organization, version, key=key, rows=rows)
                if dice.random() < 0.7:
                    holds.void(made.hold_id, "model_error")
        except (CapReachedError, InsufficientCreditError):
            pass
        if dice.random() < 0.3:
            settlement.settle()


def burst(unit: str, limit: int) -> None:
    organization, version = factories.make_organization(), factories.make_version()
    key, _ = factories.make_key(organization)
    budgets.set_limit(organization, "month", limit, unit=unit, api_key=key)

    accepted = numbered(24, lambda _: attempt(organization, version, key=key))

    assert accepted.count(True) == 10
    assert Hold.objects.count() == 10
    prove()


@pytest.mark.django_db(transaction=True)
def test_a_burst_gets_the_money_that_is_left_and_not_a_nano_more() -> None:
    """Regression 1: QuantumNous/new-api#6609, songquanpeng/one-api#2440, check, then decrement."""
    burst("money", 10 * ROW + ROW - 1)


@pytest.mark.django_db(transaction=True)
def test_a_burst_gets_the_calls_that_are_left_and_not_one_more() -> None:
    """Regression 8: BerriAI/litellm#26672, #6288, enforced after the fact, a burst passes."""
    burst("calls", 10)


@pytest.mark.django_db(transaction=True)
def test_the_last_row_of_a_wallet_is_given_once() -> None:
    """Regression 44: Scottcjn/Rustchain#6643, bavix/laravel-wallet#124, not read after the lock."""
    organization = factories.make_organization(credit_nanos=ROW)
    version = factories.make_version()

    accepted = numbered(16, lambda _: attempt(organization, version))

    assert accepted.count(True) == 1
    prove()


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("unit", ["money", "calls"])
@pytest.mark.parametrize("is_key_full", [True, False])
def test_a_run_is_counted_in_all_its_budgets_or_in_none(
    organization: Organization, version: ModelVersion, unit: str, is_key_full: bool
) -> None:
    """Invariant 4: one budget refuses, the others are unchanged."""
    key, _ = factories.make_key(organization)
    room = {"money": 100 * ROW, "calls": 100}[unit]
    budgets.set_limit(organization, "day", 0 if is_key_full else room, unit=unit, api_key=key)
    budgets.set_limit(organization, "lifetime", room if is_key_full else 0, unit=unit)

    with pytest.raises(CapReachedError) as refused:
        reserve(organization, version, key=key)

    assert refused.value.cap.startswith("key-day" if is_key_full else "organization-lifetime")
    assert not Budget.objects.exclude(held=0).exists()
    assert not Hold.objects.exists()
