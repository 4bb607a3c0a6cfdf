from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from accounts.models import Organization
from billing import holds, ledger, settlement
from billing.checks import books as checks
from billing.errors import LedgerError
from billing.models import Budget, LedgerAccount, LedgerEntry, LedgerTransaction
from catalog.models import ModelVersion
from tests.billing import trace
from tests.billing.calls import reserve, succeed
from tests.factories import make_organization

pytestmark = pytest.mark.django_db
RECORDED = Path(__file__).with_name("trace.json")


def refused(sql: str, *values: Any) -> str:
    """Run SQL that the database must refuse; returns what it says."""
    with (
        pytest.raises(IntegrityError) as error,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql, values)
    return str(error.value)


@pytest.fixture
def booked(organization: Organization) -> LedgerTransaction:
    found = LedgerTransaction.objects.filter(organization=organization).first()
    assert found is not None
    return found


@given(amounts=st.lists(st.integers(-(2**62), 2**62), max_size=6))
@bounds(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_does_not_sum_to_zero_is_not_booked(
    organization: Organization, amounts: list[int]
) -> None:
    """Invariant 1: the entries of every transaction sum to zero."""
    accounts = [
        ledger.account((f"test:{number}", LedgerAccount.Kind.ASSET))
        for number in range(len(amounts))
    ]
    entries = dict(zip(accounts, amounts, strict=True))
    before = LedgerTransaction.objects.count()
    is_right = sum(amounts) == 0 and sum(amount != 0 for amount in amounts) > 1

    with transaction.atomic():
        if is_right:
            ledger.post("test", f"{before}", entries, organization=organization)
        else:
            with pytest.raises(LedgerError):
                ledger.post("test", f"{before}", entries, organization=organization)

    assert LedgerTransaction.objects.count() == before + is_right
    assert checks.transactions_balance() == []


def test_an_unbalanced_transaction_cannot_be_sealed(organization: Organization) -> None:
    """Invariant 1: the database itself refuses to seal what does not sum to zero."""
    with transaction.atomic():
        made = LedgerTransaction.objects.create(kind="test", external_ref="raw")
        for code, amount in (("test:a", 5), ("test:b", -4)):
            account = ledger.account((code, LedgerAccount.Kind.ASSET))
            LedgerEntry.objects.create(transaction=made, account=account, amount_nanos=amount)

        told = refused(
            "UPDATE billing_ledgertransaction SET is_sealed = %s, number = 1, hash = 'x' "
            "WHERE id = %s",
            True,
            made.pk,
        )
        assert "unbalanced" in told
        # Not left behind: what is not sealed may not be committed.
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE billing_ledgerentry SET amount_nanos = amount_nanos + 1 WHERE transaction_id = %s",
        "DELETE FROM billing_ledgerentry WHERE transaction_id = %s",
        "UPDATE billing_ledgertransaction SET reason = 'other' WHERE id = %s",
        "UPDATE billing_ledgertransaction SET is_sealed = NOT is_sealed WHERE id = %s",
        "UPDATE billing_ledgertransaction SET number = number + 1 WHERE id = %s",
        "UPDATE billing_ledgertransaction SET hash = 'other' WHERE id = %s",
        "DELETE FROM billing_ledgertransaction WHERE id = %s",
    ],
)
def test_a_sealed_transaction_cannot_be_changed(booked: LedgerTransaction, sql: str) -> None:
    """Invariant 2: sealed transactions and their entries are immutable, by raw SQL too."""
    assert "do" in refused(sql, booked.pk)
    assert checks.books_are_chained() == []


def test_nothing_can_be_slipped_into_a_sealed_transaction(booked: LedgerTransaction) -> None:
    """Invariant 2: a sealed transaction takes no more entries."""
    account = ledger.account(ledger.SUSPENSE)

    told = refused(
        "INSERT INTO billing_ledgerentry (transaction_id, account_id, amount_nanos) "
        "VALUES (%s, %s, 1)",
        booked.pk,
        account.pk,
    )

    assert "sealed" in told


def test_a_hold_that_has_ended_cannot_be_changed(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 2: an ended hold keeps its state and amount, by raw SQL too."""
    hold_id = succeed(organization, version)
    value = hold_id if connection.vendor == "postgresql" else hold_id.hex

    for change in ("captured_nanos = captured_nanos - 1", "state = 'voided'", "reserved_nanos = 9"):
        assert "ended" in refused(f"UPDATE billing_hold SET {change} WHERE id = %s", value)  # noqa: S608  (of this test)
    assert "usage" in refused("DELETE FROM billing_usageevent WHERE hold_id = %s", value)
    assert not holds.void(hold_id, "late")


def test_a_cap_cannot_be_passed_by_raw_sql(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 3: the database refuses to hold more than a budget's capacity."""
    reserve(organization, version)
    budget = Budget.objects.filter(organization=organization, lock_rank=3).get()

    told = refused(
        "UPDATE billing_budget SET held = capacity - posted + 1 WHERE id = %s", budget.pk
    )

    assert "cap" in told


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE catalog_priceversion SET min_charge_nanos = 1",
        "DELETE FROM catalog_priceversion",
        "UPDATE catalog_pricecomponent SET amount_nanos = 1",
        "DELETE FROM catalog_pricecomponent",
        "UPDATE billing_shareversion SET publisher_bps = 1",
    ],
)
def test_prices_and_shares_cannot_be_changed(
    organization: Organization, version: ModelVersion, sql: str
) -> None:
    """Invariant 18: what a run was promised stays, by raw SQL too."""
    succeed(organization, version)

    assert "do not change" in refused(sql)


def test_the_same_trace_gives_the_same_books_on_every_database() -> None:
    """Invariant 41: SQLite and PostgreSQL give identical ledgers for the same operations."""
    said = json.loads(json.dumps(trace.play()))

    assert said == json.loads(RECORDED.read_text(encoding="utf-8"))
    assert checks.transactions_balance() == checks.books_are_chained() == []


def test_a_reversal_undoes_a_transaction_once(
    organization: Organization, booked: LedgerTransaction
) -> None:
    first, is_new = ledger.reverse(booked, kind="reversal", actor=None, reason="wrong")
    second, is_again = ledger.reverse(booked, kind="reversal", actor=None, reason="wrong")

    assert (is_new, is_again, first) == (True, False, second)
    assert first.reversal_of == booked
    sums = {line.account_id: line.amount_nanos for line in first.entries.all()}
    assert sums == {line.account_id: -line.amount_nanos for line in booked.entries.all()}


def test_books_of_two_organizations_are_two_chains(
    organization: Organization, version: ModelVersion
) -> None:
    other = make_organization()
    succeed(other, version)
    succeed(organization, version)
    settlement.settle()

    for owner in (organization, other):
        numbers = LedgerTransaction.objects.filter(organization=owner).order_by("number")
        assert list(numbers.values_list("number", flat=True)) == [1, 2]
    assert checks.books_are_chained() == []
