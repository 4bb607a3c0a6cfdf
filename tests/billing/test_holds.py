"""Money set aside, captured, voided, expired; caps that cannot be passed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts.models import Organization
from billing import budgets, credit, holds, settlement
from billing.errors import (
    CapReachedError,
    InsufficientCreditError,
    OrganizationFrozenError,
)
from billing.models import Hold, LedgerTransaction, UsageEvent, UsageOrphan
from billing.money import NANOS
from catalog.models import ModelVersion
from tests import factories
from tests.billing.calls import prepare, report

pytestmark = pytest.mark.usefixtures("books")
ROW = factories.ROW_NANOS


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


def test_a_run_takes_its_price_from_the_balance_and_pays_the_publisher(
    organization: Organization, version: ModelVersion
) -> None:
    made = prepare(organization, version, rows=3)

    holds.reserve(made)
    assert budgets.wallet(organization).available == 5 * NANOS - 3 * ROW
    assert holds.capture(report(made, version, rows=3))
    settlement.settle()

    wallet = budgets.wallet(organization)
    assert (wallet.posted, wallet.held) == (3 * ROW, 0)
    entries = LedgerTransaction.objects.get(kind="settlement").entries.all()
    assert {entry.account.code: entry.amount_nanos for entry in entries} == {
        f"tenant:{organization.pk}:promo": 3 * ROW,
        f"publisher:{version.model.owner_id}:accrued": -3 * ROW * 8 // 10,
        "platform:revenue": -3 * ROW * 2 // 10,
    }


def test_a_run_that_does_not_fit_the_wallet_is_refused_and_holds_nothing(
    version: ModelVersion,
) -> None:
    poor = factories.make_organization(credit_nanos=ROW - 1)

    with pytest.raises(InsufficientCreditError):
        holds.reserve(prepare(poor, version))

    assert budgets.wallet(poor).held == 0
    assert not Hold.objects.filter(organization=poor).exists()


def test_a_run_may_take_the_last_nano(version: ModelVersion) -> None:
    exact = factories.make_organization(credit_nanos=ROW)

    holds.reserve(prepare(exact, version))

    assert budgets.wallet(exact).available == 0


def test_a_limit_of_the_key_refuses_while_the_wallet_is_full(
    organization: Organization, version: ModelVersion
) -> None:
    key, _ = factories.make_key(organization)
    budgets.set_limit(organization, "month", 2 * ROW, api_key=key)
    holds.reserve(prepare(organization, version, rows=2, key=key))

    with pytest.raises(CapReachedError, match="key"):
        holds.reserve(prepare(organization, version, key=key))

    holds.reserve(prepare(organization, version))  # without that key there is room


def test_a_limit_of_the_organization_refuses_every_key(
    organization: Organization, version: ModelVersion
) -> None:
    budgets.set_limit(organization, "month", ROW)
    holds.reserve(prepare(organization, version))

    with pytest.raises(CapReachedError, match="organization"):
        holds.reserve(prepare(organization, version))


def test_a_frozen_organization_cannot_start_anything(
    organization: Organization, version: ModelVersion
) -> None:
    made = prepare(organization, version)
    Organization.objects.filter(pk=organization.pk).update(is_frozen=True)

    with pytest.raises(OrganizationFrozenError):
        holds.reserve(made)


def test_a_run_is_charged_once_however_often_it_is_reported(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 7, 9, 10; regression 21, 38: what is reported again is billed nothing."""
    made = prepare(organization, version)
    holds.reserve(made)

    first, second = (holds.capture(report(made, version)) for _ in range(2))

    assert (first, second) == (True, False)
    assert UsageEvent.objects.count() == 1
    assert UsageOrphan.objects.get().hold_id == made.hold_id


def test_what_a_run_used_beyond_its_reservation_is_not_charged(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 5: what is above is written off."""
    made = prepare(organization, version, rows=1)
    holds.reserve(made)

    holds.capture(report(made, version, quantities={"row": 9}))

    usage = UsageEvent.objects.get()
    assert (usage.cost_nanos, usage.uncapped_nanos) == (ROW, 9 * ROW)


def test_the_database_refuses_a_charge_above_the_prepare(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 5: the database refuses."""
    made = prepare(organization, version)
    holds.reserve(made)

    with pytest.raises(IntegrityError), transaction.atomic():
        Hold.objects.update(state="captured", captured_nanos=made.reserved_nanos + 1)


def test_a_failure_costs_nothing_and_gives_everything_back(
    organization: Organization, version: ModelVersion
) -> None:
    made = prepare(organization, version)
    holds.reserve(made)

    holds.capture(report(made, version, outcome="model_error", failure="model_error"))
    settlement.settle()

    assert budgets.wallet(organization).available == 5 * NANOS
    assert Hold.objects.get().state == Hold.State.VOIDED


def test_a_failure_that_the_policy_charges_is_charged(
    organization: Organization,
) -> None:
    version = factories.make_version(outcome_policy={"model_error": 50})
    made = prepare(organization, version)
    holds.reserve(made)
    policy = replace(report(made, version).terms, policy=version.outcome_policy)

    holds.capture(report(made, version, outcome="model_error", terms=policy))

    assert UsageEvent.objects.get().cost_nanos == ROW // 2


def test_a_hold_whose_worker_died_expires_and_gives_its_money_back(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 6; regression 2, 43: no hold is left open."""
    made = replace(
        prepare(organization, version), expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )
    holds.reserve(made)

    assert holds.expire_due() == 1
    assert not holds.capture(report(made, version))
    settlement.settle()

    assert budgets.wallet(organization).available == 5 * NANOS


def test_a_hold_that_is_kept_alive_does_not_expire(
    organization: Organization, version: ModelVersion
) -> None:
    made = replace(
        prepare(organization, version), expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )
    holds.reserve(made)

    assert holds.extend(made.hold_id, datetime.now(UTC) + timedelta(minutes=1))
    assert holds.expire_due() == 0


def test_settling_twice_changes_nothing(organization: Organization, version: ModelVersion) -> None:
    """Invariant 32; regression 14: settled once."""
    made = prepare(organization, version)
    holds.reserve(made)
    holds.capture(report(made, version))

    assert (settlement.settle(), settlement.settle()) == (1, 0)


def test_a_free_model_is_counted_and_costs_nothing(organization: Organization) -> None:
    """Invariant 40; regression 10: a zero is a zero."""
    free = factories.make_version(row_nanos=0)
    made = prepare(organization, free)
    holds.reserve(made)
    holds.capture(report(made, free, quantities={"row": 1}))
    settlement.settle()

    assert UsageEvent.objects.get().cost_nanos == 0
    assert not LedgerTransaction.objects.filter(kind="settlement").exists()


def test_credit_is_given_once_per_reference(organization: Organization) -> None:
    for _ in range(3):
        credit.grant(organization, NANOS, external_ref="gift", reason="test")

    assert budgets.wallet(organization).available == 6 * NANOS


def test_credit_can_be_taken_below_zero_and_nothing_starts_then(
    organization: Organization, version: ModelVersion
) -> None:
    credit.take(organization, 6 * NANOS, external_ref="fraud", reason="test")

    assert budgets.wallet(organization).available == -NANOS
    with pytest.raises(InsufficientCreditError, match="0 is available"):
        holds.reserve(prepare(organization, version))
