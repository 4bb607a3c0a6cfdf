"""Money set aside, captured, voided, expired; caps that cannot be passed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.keys import Caller
from accounts.models import Organization
from billing import budgets, credit, holds, quotes, settlement, shares
from billing.errors import (
    CapReachedError,
    InsufficientCreditError,
    OrganizationFrozenError,
    QuoteExpiredError,
)
from billing.holds import Admission
from billing.models import Hold, LedgerTransaction, UsageEvent, UsageOrphan
from billing.money import NANOS
from billing.rating import plan_of
from billing.reports import Report, Terms
from billing.reservations import Reservation
from catalog import prices
from catalog.models import ModelVersion
from tests import factories

pytestmark = pytest.mark.usefixtures("books")
ROW = factories.ROW_NANOS


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


def caller(organization: Organization, **fields: Any) -> Caller:
    return Caller(organization.pk, organization.slug, **fields)


def reservation(
    organization: Organization, version: ModelVersion, *, rows: int = 1, **fields: Any
) -> Reservation:
    price = prices.current(version.model)
    assert price is not None
    now = datetime.now(UTC)
    return holds.prepare(
        caller(organization, **fields),
        plan_of(price),
        share_version_id=shares.current().pk,
        quantities={"row": rows},
        source="api",
        accepted_at=now,
        expires_at=now + timedelta(minutes=1),
        model_version_id=version.pk,
    )


def report(made: Reservation, version: ModelVersion, **fields: Any) -> Report:
    price = prices.current(version.model)
    assert price is not None
    values: dict[str, Any] = {
        "hold_id": made.hold_id,
        "outcome": "succeeded",
        "terms": Terms(plan_of(price), 8000, {}),
        "quantities": {"row": made.reserved_nanos // ROW},
        "organization_id": made.organization_id,
        "reserved_nanos": made.reserved_nanos,
        "accepted_at": made.accepted_at,
        "completed_at": made.accepted_at,
        "model_version_id": version.pk,
    }
    return Report(**(values | fields))


def test_a_run_takes_its_price_from_the_balance_and_pays_the_publisher(
    organization: Organization, version: ModelVersion
) -> None:
    made = reservation(organization, version, rows=3)

    holds.reserve(made)
    assert budgets.wallet(organization).available == 5 * NANOS - 3 * ROW
    assert holds.capture(report(made, version))
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
        holds.reserve(reservation(poor, version))

    assert budgets.wallet(poor).held == 0
    assert not Hold.objects.filter(organization=poor).exists()


def test_a_run_may_take_the_last_nano(version: ModelVersion) -> None:
    exact = factories.make_organization(credit_nanos=ROW)

    holds.reserve(reservation(exact, version))

    assert budgets.wallet(exact).available == 0


def test_a_limit_of_the_key_refuses_while_the_wallet_is_full(
    organization: Organization, version: ModelVersion
) -> None:
    key, _ = factories.make_key(organization)
    budgets.set_limit(organization, "month", 2 * ROW, api_key=key)
    holds.reserve(reservation(organization, version, rows=2, api_key_id=key.pk))

    with pytest.raises(CapReachedError, match="key"):
        holds.reserve(reservation(organization, version, api_key_id=key.pk))

    holds.reserve(reservation(organization, version))  # without that key there is room


def test_a_limit_of_the_organization_refuses_every_key(
    organization: Organization, version: ModelVersion
) -> None:
    budgets.set_limit(organization, "month", ROW)
    holds.reserve(reservation(organization, version))

    with pytest.raises(CapReachedError, match="organization"):
        holds.reserve(reservation(organization, version))


def test_a_frozen_organization_cannot_start_anything(
    organization: Organization, version: ModelVersion
) -> None:
    made = reservation(organization, version)
    Organization.objects.filter(pk=organization.pk).update(is_frozen=True)

    with pytest.raises(OrganizationFrozenError):
        holds.reserve(made)


def test_a_batch_that_does_not_fit_is_admitted_in_the_order_of_arrival(
    version: ModelVersion,
) -> None:
    """Invariant 4; regression 1: all budgets of a run or none, decided by the row itself."""
    poor = factories.make_organization(credit_nanos=3 * ROW)
    rich = factories.make_organization()
    wanted = [
        reservation(poor, version, rows=2),
        reservation(poor, version, rows=2),
        reservation(rich, version, rows=5),
        reservation(poor, version, rows=1),
    ]

    outcomes = holds.reserve_many(wanted)

    assert [type(outcome) for outcome in outcomes] == [
        Admission,
        InsufficientCreditError,
        Admission,
        Admission,
    ]
    assert budgets.wallet(poor).available == 0


def test_a_batch_is_admitted_with_the_queries_of_one(
    organization: Organization, version: ModelVersion
) -> None:
    one, many = (
        [reservation(organization, version)],
        [reservation(organization, version) for _ in range(50)],
    )

    with CaptureQueriesContext(connection) as single:
        holds.reserve_many(one)
    with CaptureQueriesContext(connection) as batch:
        holds.reserve_many(many)

    assert len(batch) == len(single)


@pytest.mark.django_db(transaction=True)
def test_a_batch_is_two_commits_also_when_one_of_its_organizations_is_short(
    version: ModelVersion,
) -> None:
    """Only the calls of the one that is short are tried one by one, in the same transaction."""
    tenants = [factories.make_organization() for _ in range(16)]
    short = tenants[7]
    budgets.set_limit(short, "month", ROW)
    wanted = [reservation(tenant, version) for _ in range(2) for tenant in tenants]

    with CaptureQueriesContext(connection) as admitting:
        outcomes = holds.reserve_many(wanted)
    admitted = [one for one, outcome in zip(wanted, outcomes, strict=True) if is_in(outcome)]
    with CaptureQueriesContext(connection) as charging:
        ended = holds.capture_many([report(one, version) for one in admitted])

    refused = [one for one, outcome in zip(wanted, outcomes, strict=True) if not is_in(outcome)]
    assert refused == [wanted[16 + 7]]
    assert ended == [True] * 31
    assert [commits(each) for each in (admitting, charging)] == [1, 1]


def is_in(outcome: object) -> bool:
    return isinstance(outcome, Admission)


def commits(captured: CaptureQueriesContext) -> int:
    """Count commits; a statement outside of a transaction is one as well."""
    done, is_inside = 0, False
    for query in captured:
        word = query["sql"].split()[0]
        done += word == "COMMIT" or not (is_inside or word in {"BEGIN", "SELECT"})
        is_inside = word == "BEGIN" or (is_inside and word not in {"COMMIT", "ROLLBACK"})
    return done


def test_a_call_that_does_not_fit_is_told_what_is_left_at_its_place_in_the_batch(
    version: ModelVersion,
) -> None:
    poor = factories.make_organization(credit_nanos=3 * ROW)
    wanted = [reservation(poor, version, rows=rows) for rows in (2, 2, 1)]

    _, refused, _ = holds.reserve_many(wanted)

    assert isinstance(refused, InsufficientCreditError)
    assert "and 0.00002 is available" in str(refused)


def test_a_quote_that_two_calls_of_a_batch_name_is_used_by_the_first(
    organization: Organization, version: ModelVersion
) -> None:
    price = prices.current(version.model)
    assert price is not None
    quote = quotes.make(
        organization.pk,
        plan_of(price),
        share_version_id=shares.current().pk,
        quantities={"row": 1},
        model_version_id=version.pk,
    )
    wanted = [replace(reservation(organization, version), quote_id=quote.pk) for _ in range(2)]
    other = reservation(organization, version)

    first, second, third = holds.reserve_many([*wanted, other])

    assert (is_in(first), type(second), is_in(third)) == (True, QuoteExpiredError, True)
    assert budgets.wallet(organization).held == 2 * ROW


def test_a_batch_is_charged_with_the_queries_of_one(
    organization: Organization, version: ModelVersion
) -> None:
    made = [reservation(organization, version) for _ in range(51)]
    holds.reserve_many(made)
    reports = [report(one, version) for one in made]

    with CaptureQueriesContext(connection) as single:
        holds.capture_many(reports[:1])
    with CaptureQueriesContext(connection) as batch:
        holds.capture_many(reports[1:])

    assert len(batch) == len(single)


def test_a_run_is_charged_once_however_often_it_is_reported(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 7, 9, 10; regression 21, 38: what is reported again is billed nothing."""
    made = reservation(organization, version)
    holds.reserve(made)

    first, second = (holds.capture(report(made, version)) for _ in range(2))

    assert (first, second) == (True, False)
    assert UsageEvent.objects.count() == 1
    assert UsageOrphan.objects.get().hold_id == made.hold_id


def test_a_batch_with_one_ended_hold_charges_the_others(
    organization: Organization, version: ModelVersion
) -> None:
    made = [reservation(organization, version) for _ in range(3)]
    holds.reserve_many(made)
    holds.void(made[1].hold_id, "worker_lost")

    ours = holds.capture_many([report(one, version) for one in made])

    assert ours == [True, False, True]


def test_what_a_run_used_beyond_its_reservation_is_not_charged(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 5: what is above is written off."""
    made = reservation(organization, version, rows=1)
    holds.reserve(made)

    holds.capture(report(made, version, quantities={"row": 9}))

    usage = UsageEvent.objects.get()
    assert (usage.cost_nanos, usage.uncapped_nanos) == (ROW, 9 * ROW)


def test_the_database_refuses_a_charge_above_the_reservation(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 5: the database refuses."""
    made = reservation(organization, version)
    holds.reserve(made)

    with pytest.raises(IntegrityError), transaction.atomic():
        Hold.objects.update(state="captured", captured_nanos=made.reserved_nanos + 1)


def test_a_failure_costs_nothing_and_gives_everything_back(
    organization: Organization, version: ModelVersion
) -> None:
    made = reservation(organization, version)
    holds.reserve(made)

    holds.capture(report(made, version, outcome="model_error", failure="model_error"))
    settlement.settle()

    assert budgets.wallet(organization).available == 5 * NANOS
    assert Hold.objects.get().state == Hold.State.VOIDED


def test_a_failure_that_the_policy_charges_is_charged(
    organization: Organization,
) -> None:
    version = factories.make_version(outcome_policy={"model_error": 50})
    made = reservation(organization, version)
    holds.reserve(made)
    policy = replace(report(made, version).terms, policy=version.outcome_policy)

    holds.capture(report(made, version, outcome="model_error", terms=policy))

    assert UsageEvent.objects.get().cost_nanos == ROW // 2


def test_a_hold_whose_worker_died_expires_and_gives_its_money_back(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 6; regression 2, 43: no hold is left open."""
    made = replace(
        reservation(organization, version), expires_at=datetime.now(UTC) - timedelta(seconds=1)
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
        reservation(organization, version), expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )
    holds.reserve(made)

    assert holds.extend(made.hold_id, datetime.now(UTC) + timedelta(minutes=1))
    assert holds.expire_due() == 0


def test_settling_twice_changes_nothing(organization: Organization, version: ModelVersion) -> None:
    """Invariant 32; regression 14: settled once."""
    made = reservation(organization, version)
    holds.reserve(made)
    holds.capture(report(made, version))

    assert (settlement.settle(), settlement.settle()) == (1, 0)


def test_a_free_model_is_counted_and_costs_nothing(organization: Organization) -> None:
    """Invariant 40; regression 10: a zero is a zero."""
    free = factories.make_version(row_nanos=0)
    made = reservation(organization, free)
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
        holds.reserve(reservation(organization, version))
