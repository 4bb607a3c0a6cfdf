from __future__ import annotations

import uuid
from typing import Any

import pytest

from accounts.models import AuditEntry, Organization, User
from billing import adjustments, budgets, ledger, settlement, wallets
from billing.errors import AdjustmentError
from billing.models import Adjustment, LedgerAccount, LedgerTransaction
from catalog.models import ModelVersion
from tests.billing.calls import succeed
from tests.factories import make_organization, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
Account = tuple[str, ledger.Kind]


@pytest.fixture
def operator(db: None) -> User:
    return make_user("operator@example.com", is_staff=True)


def propose(
    debit: LedgerAccount, credit: LedgerAccount, nanos: int, actor: User, **fields: Any
) -> Adjustment:
    fields.setdefault("reason", "Bank's mistake")
    return adjustments.propose(
        fields.pop("id", uuid.uuid4()), debit, credit, nanos, actor=actor, **fields
    )


def suspense() -> LedgerAccount:
    return ledger.account(ledger.SUSPENSE)


def test_an_entry_between_accounts_of_the_platform_is_booked_with_reason_and_actor(
    operator: User,
) -> None:
    made = propose(suspense(), ledger.account(ledger.CLEARING), 700, operator)

    booked = made.ledger_transaction
    assert booked is not None
    assert (booked.kind, booked.actor, booked.reason) == (
        "correction",
        operator,
        "Bank's mistake",
    )
    assert ledger.balance_of(ledger.SUSPENSE) == 700
    assert AuditEntry.objects.filter(action="adjustment.booked", actor=operator).exists()


@pytest.mark.parametrize("sign", [1, -1])
def test_an_entry_on_paid_credit_moves_the_wallet(
    organization: Organization, operator: User, sign: int
) -> None:
    had = budgets.wallet(organization).available
    credit = ledger.account(ledger.CREDIT, organization)

    if sign > 0:
        propose(suspense(), credit, 900, operator)
    else:
        propose(credit, suspense(), 900, operator)

    assert wallets.of(organization).paid_nanos == sign * 900
    assert budgets.wallet(organization).available == had + sign * 900


def test_what_is_owed_can_be_taken_off_and_no_more(version: ModelVersion, operator: User) -> None:
    organization = make_organization(credit_nanos=0)
    wallets.set_line(organization, 1_000_000, actor=operator, reason="test")
    succeed(organization, version)
    settlement.settle()
    receivable = ledger.account(ledger.RECEIVABLE, organization)
    write_off = ledger.account(ledger.WRITE_OFF)

    propose(write_off, receivable, 15_000, operator)
    with pytest.raises(AdjustmentError, match="Less is owed"):
        propose(write_off, receivable, 5_001, operator)

    assert wallets.of(organization).owed_nanos == 5_000
    assert budgets.wallet(organization).available == 995_000


def test_the_same_form_books_once(operator: User) -> None:
    form = uuid.uuid4()
    for _ in range(2):
        propose(suspense(), ledger.account(ledger.FEES), 5, operator, id=form)

    assert ledger.balance_of(ledger.SUSPENSE) == 5


@pytest.mark.parametrize(
    ("debit", "credit", "nanos", "reason"),
    [
        (ledger.SUSPENSE, ledger.CLEARING, 0, "x"),
        (ledger.SUSPENSE, ledger.CLEARING, -1, "x"),
        (ledger.SUSPENSE, ledger.SUSPENSE, 1, "x"),
        (ledger.SUSPENSE, ledger.CLEARING, 1, " "),
        (ledger.SUSPENSE, ledger.PROMOTIONAL, 1, "x"),
        (ledger.ACCRUED, ledger.SUSPENSE, 1, "x"),
        (ledger.RECEIVABLE, ledger.SUSPENSE, 1, "x"),
        (ledger.CREDIT, ledger.RECEIVABLE, 1, "x"),
    ],
)
def test_an_entry_that_would_leave_rows_behind_is_refused(
    organization: Organization,
    operator: User,
    debit: Account,
    credit: Account,
    nanos: int,
    reason: str,
) -> None:
    def account(template: Account) -> LedgerAccount:
        return ledger.account(template, organization if "{}" in template[0] else None)

    with pytest.raises(AdjustmentError):
        propose(account(debit), account(credit), nanos, operator, reason=reason)

    assert not LedgerTransaction.objects.filter(kind="correction").exists()


def test_two_people_are_needed_if_the_site_says_so(settings: Any, operator: User) -> None:
    settings.TWO_PERSON_CORRECTIONS = True
    made = propose(suspense(), ledger.account(ledger.FEES), 5, operator)
    assert ledger.balance_of(ledger.SUSPENSE) == 0

    with pytest.raises(AdjustmentError, match="Another operator"):
        adjustments.approve(made, actor=operator)
    adjustments.approve(made, actor=make_user(is_staff=True))
    with pytest.raises(AdjustmentError, match="decided"):
        adjustments.approve(made, actor=make_user(is_staff=True))

    assert ledger.balance_of(ledger.SUSPENSE) == 5


def test_what_is_rejected_is_not_booked(settings: Any, operator: User) -> None:
    settings.TWO_PERSON_CORRECTIONS = True
    made = propose(suspense(), ledger.account(ledger.FEES), 5, operator)

    adjustments.reject(made, actor=operator, reason="Found it")

    with pytest.raises(AdjustmentError, match="decided"):
        adjustments.approve(made, actor=make_user(is_staff=True))
    assert ledger.balance_of(ledger.SUSPENSE) == 0


def test_a_correction_is_taken_back_once_with_the_wallet(
    organization: Organization, operator: User
) -> None:
    made = propose(suspense(), ledger.account(ledger.CREDIT, organization), 900, operator)
    booked = made.ledger_transaction
    assert booked is not None

    back = adjustments.reverse(booked, uuid.uuid4(), reason="Wrong tenant", actor=operator)

    assert back.ledger_transaction is not None
    assert back.ledger_transaction.reversal_of == booked
    assert wallets.of(organization).paid_nanos == 0
    with pytest.raises(AdjustmentError, match="taken back before"):
        adjustments.reverse(
            LedgerTransaction.objects.get(pk=booked.pk),
            uuid.uuid4(),
            reason="Again",
            actor=operator,
        )


def test_what_has_a_verb_of_its_own_is_not_taken_back_by_hand(
    organization: Organization, version: ModelVersion, operator: User
) -> None:
    succeed(organization, version)
    settlement.settle()

    for booked in LedgerTransaction.objects.all():
        assert not adjustments.can_reverse(booked)
        with pytest.raises(AdjustmentError):
            adjustments.reverse(booked, uuid.uuid4(), reason="x", actor=operator)
