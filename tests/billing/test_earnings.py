from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from billing import charge_refunds, earnings, ledger, settlement
from billing.invariants import violations
from billing.models import Earning, LedgerTransaction
from catalog.models import ModelVersion
from tests.billing.calls import succeed
from tests.billing.publishing import PART, earn, make_seller, owed
from tests.factories import make_organization, make_user

LATER = timedelta(days=31)


def test_earnings_stay_accrued_for_the_hold_period(books: None, settings: Any) -> None:
    settings.EARNINGS_HOLD_DAYS = 7
    organization, version = make_seller(calls=0)
    earn(version, release=False)
    now = timezone.now()

    assert earnings.release_due(now + timedelta(days=7, seconds=-5)) == 0
    assert owed(organization) == 0
    assert earnings.release_due(now + timedelta(days=7)) == 1

    assert owed(organization) == PART
    assert ledger.balance_of(ledger.ACCRUED, organization) == 0


def test_releasing_again_changes_nothing(books: None) -> None:
    organization, _ = make_seller()

    assert earnings.release_due(timezone.now() + LATER) == 0

    assert owed(organization) == PART
    assert LedgerTransaction.objects.filter(kind=earnings.KIND).count() == 1


def test_a_run_books_once_per_publisher_however_many_earned(books: None) -> None:
    first, one = make_seller(calls=0)
    second, two = make_seller(calls=0)
    for _ in range(3):
        earn(one, release=False)
        earn(two, release=False)

    assert earnings.release_due(timezone.now() + LATER) == 6

    assert LedgerTransaction.objects.filter(kind=earnings.KIND).count() == 2
    assert (owed(first), owed(second)) == (3 * PART, 3 * PART)


def test_what_was_all_given_back_is_released_without_an_entry(
    books: None, organization: Organization, version: ModelVersion
) -> None:
    succeed(organization, version)
    settlement.settle()
    hold = organization.holds.get()
    charge_refunds.refund(hold.pk, None, external_ref="x", reason="x", actor=make_user())

    assert earnings.release_due(timezone.now() + LATER) == 1

    assert not LedgerTransaction.objects.filter(kind=earnings.KIND).exists()
    assert Earning.objects.get().released_at is not None


class Killed(BaseException):
    """What a process that dies does not catch."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", ["release.locked", "release.booked", "release.marked"])
def test_dying_while_releasing_changes_nothing(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 11: a release that dies at any line is done by the next."""
    organization, version = make_seller(calls=0)
    earn(version, release=False)

    def die(name: str) -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("billing.crashes.point", die)
        with pytest.raises(Killed):
            earnings.release_due(timezone.now() + LATER)
    assert owed(organization) == 0
    earnings.release_due(timezone.now() + LATER)

    assert owed(organization) == PART
    assert violations() == []


@pytest.mark.django_db(transaction=True)
def test_four_who_release_at_once_release_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earnings, "BATCH", 2)
    organization, version = make_seller(calls=0)
    for _ in range(5):
        buyer = make_organization(credit_nanos=1_000_000_000_000)
        succeed(buyer, version)
    settlement.settle()
    start = threading.Barrier(4)

    def release() -> None:
        start.wait()
        try:
            earnings.release_due(timezone.now() + LATER)
        finally:
            connection.close()

    threads = [threading.Thread(target=release) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    earnings.release_due(timezone.now() + LATER)

    assert owed(organization) == 5 * PART
    assert not Earning.objects.filter(released_at=None).exists()
    assert violations() == []
