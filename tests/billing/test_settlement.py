"""The settler: in parallel, in any order, and what it must not overlook."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db import connection

from accounts.models import Organization
from billing import budgets, finished, holds, ledger, settlement, wallets
from billing.errors import UnratedError
from billing.finished import Finished
from billing.invariants import violations
from billing.models import (
    Budget,
    Earning,
    Hold,
    LedgerBook,
    LedgerEntry,
    LedgerTransaction,
    MeterBucket,
    Settlement,
    UsageEvent,
    UsageRollup,
)
from billing.money import NANOS
from catalog.models import ModelVersion
from tests import factories
from tests.billing import calls
from tests.billing.threads import in_threads

ROW = factories.ROW_NANOS


@pytest.mark.django_db(transaction=True)
def test_settlers_at_once_settle_each_call_once() -> None:
    """Invariant 32; regression 11, 14: locks are taken in one order, and a call is settled once."""
    publisher = factories.make_organization(credit_nanos=0)
    versions = [factories.make_version(owner=publisher) for _ in range(3)]
    tenants = [factories.make_organization() for _ in range(4)]
    for _ in range(5):
        for tenant in tenants:
            for version in versions:
                calls.succeed(tenant, version)
        in_threads(4, settlement.settle)

    assert not Hold.objects.filter(settlement=None).exists()
    for tenant in tenants:
        assert budgets.wallet(tenant).posted == 15 * ROW
    assert sum(Settlement.objects.values_list("hold_count", flat=True)) == 60
    assert violations() == []


@pytest.mark.django_db(transaction=True)
def test_what_another_settler_takes_in_between_is_not_booked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Holds are read before the lock, so that nobody waits for the arithmetic."""
    tenant, version = factories.make_organization(), factories.make_version()
    calls.succeed(tenant, version)
    read = finished.waiting
    overtaken: list[int] = []

    def read_and_be_overtaken(organization_id: int, limit: int) -> list[Finished]:
        assert not connection.in_atomic_block
        found = read(organization_id, limit)
        if not overtaken:
            overtaken.append(organization_id)
            in_threads(1, settlement.settle)
            calls.succeed(tenant, version)
        return found

    monkeypatch.setattr(finished, "waiting", read_and_be_overtaken)

    assert settlement.settle() == 1
    assert list(Settlement.objects.values_list("hold_count", flat=True)) == [1, 1]
    assert budgets.wallet(tenant).posted == 2 * ROW
    assert violations() == []


@pytest.mark.django_db(transaction=True)
def test_a_call_with_an_older_id_that_ends_later_is_settled_too() -> None:
    """Regression 40: nothing is taken for settled because a younger one is."""
    organization, version = factories.make_organization(), factories.make_version()
    older = calls.reserve(organization, version)
    calls.succeed(organization, version)
    settlement.settle()

    assert holds.void(older.hold_id, "canceled")
    settlement.settle()

    assert Hold.objects.get(pk=older.hold_id).settlement is not None
    assert budgets.wallet(organization).held == 0
    assert violations() == []


@pytest.mark.django_db
def test_promotional_credit_is_used_before_paid_credit(organization: Organization) -> None:
    """Earliest expiry first is a matter of the grants' order: see test_promotions."""
    version = factories.make_version(row_nanos=3 * NANOS)
    wallets.add_paid(
        organization,
        4 * NANOS,
        {ledger.account(ledger.CLEARING): 4 * NANOS},
        kind="top_up",
        external_ref="one",
    )
    for _ in range(2):
        calls.succeed(organization, version)
    settlement.settle()

    wallet = wallets.of(organization)
    assert wallet.paid_nanos == 3 * NANOS
    assert sum(organization.credit_grants.values_list("remaining_nanos", flat=True)) == 0
    assert violations() == []


@pytest.mark.django_db
def test_what_is_used_on_the_credit_line_is_owed_and_metered() -> None:
    organization = factories.make_organization(credit_nanos=ROW)
    version, operator = factories.make_version(), factories.make_user()
    wallets.set_line(organization, 10 * ROW, actor=operator, reason="test")
    for _ in range(3):
        calls.succeed(organization, version)
    settlement.settle()

    wallet = wallets.of(organization)
    assert (wallet.paid_nanos, wallet.owed_nanos) == (0, 2 * ROW)
    assert sum(MeterBucket.objects.values_list("nanos", flat=True)) == 2 * ROW
    assert budgets.wallet(organization).available == 8 * ROW
    assert violations() == []


@pytest.mark.django_db
def test_what_was_used_beyond_the_reservation_is_earned_and_written_off(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 5: the tenant pays what was set aside; the rest is in the books as a loss."""
    reservation = calls.reserve(organization, version)
    report = calls.report(reservation, version, rows=4)
    assert holds.capture(report)
    settlement.settle()

    usage = UsageEvent.objects.get()
    assert (usage.cost_nanos, usage.uncapped_nanos) == (ROW, 4 * ROW)
    written_off = LedgerEntry.objects.get(account__code="platform:writeoff")
    assert written_off.amount_nanos == 3 * ROW
    assert violations() == []


def _trace() -> list[UUID]:
    """Play one fixed history: two tenants, a publisher, a failure, an overrun, a line."""
    publisher = factories.make_organization(credit_nanos=0, slug="publisher")
    version = factories.make_version(owner=publisher, name="digits")
    one = factories.make_organization(credit_nanos=3 * ROW, slug="one")
    two = factories.make_organization(credit_nanos=0, slug="two")
    wallets.set_line(two, 5 * ROW, actor=factories.make_user(), reason="test")
    made = [calls.succeed(one, version), calls.succeed(two, version, rows=2)]
    made.append(calls.fail(one, version))
    settlement.settle()
    made.append(calls.succeed(one, version, rows=2))
    settlement.settle()
    return made


@pytest.mark.django_db
def test_both_databases_book_the_same_history_alike() -> None:
    """Invariant 41: each pass compares with the same expected books."""
    _trace()

    entries = LedgerEntry.objects.order_by("transaction_id", "account__code")
    names = dict(Organization.objects.values_list("pk", "slug"))
    told = [
        (entry.transaction.kind, _named(entry.account.code, names), entry.amount_nanos)
        for entry in entries.select_related("transaction", "account")
    ]
    assert told == [
        ("credit_granted", "platform:promotion", 60_000),
        ("credit_granted", "tenant:one:promo", -60_000),
        ("settlement", "platform:revenue", -4_000),
        ("settlement", "publisher:publisher:accrued", -16_000),
        ("settlement", "tenant:one:promo", 20_000),
        ("settlement", "platform:revenue", -8_000),
        ("settlement", "publisher:publisher:accrued", -32_000),
        ("settlement", "tenant:two:receivable", 40_000),
        ("settlement", "platform:revenue", -8_000),
        ("settlement", "publisher:publisher:accrued", -32_000),
        ("settlement", "tenant:one:promo", 40_000),
    ]
    assert list(LedgerTransaction.objects.order_by("pk").values_list("number", flat=True)) == [
        *(1, 2, 1, 3)
    ]
    assert LedgerBook.objects.count() == 2
    assert list(Earning.objects.values_list("amount_nanos", flat=True)) == [16_000, 32_000, 32_000]
    assert list(
        Budget.objects.filter(lock_rank=Budget.Rank.WALLET)
        .order_by("organization__slug")
        .values_list("organization__slug", "capacity", "posted", "held")
    ) == [("one", 60_000, 60_000, 0), ("two", 100_000, 40_000, 0)]
    assert sum(UsageRollup.objects.values_list("calls", flat=True)) == 3
    assert violations() == []


def _named(code: str, names: dict[int, str]) -> str:
    kind, middle, *rest = code.split(":")
    return ":".join([kind, names[int(middle)] if middle.isdigit() else middle, *rest])


@pytest.mark.django_db
def test_a_price_must_exist_when_a_run_is_admitted(organization: Organization) -> None:
    """Regression 36: what has no price is refused, never billed as nothing."""
    version = factories.make_version()
    with pytest.raises(UnratedError):
        calls.reserve(organization, version, quantities={"output_token": 5})

    assert not Hold.objects.exists()
