from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry
from billing import budgets
from billing.models import LedgerTransaction
from tests.maas_site.rows import make_organization

pytestmark = pytest.mark.django_db


def grant(slug: str, amount: str = "2.5", ref: str = "invoice-7") -> str:
    told = StringIO()
    call_command(
        "grant_credit",
        organization=slug,
        amount=amount,
        reason="Paid by transfer",
        ref=ref,
        stdout=told,
    )
    return told.getvalue()


def test_credit_is_granted_once_per_reference() -> None:
    organization = make_organization(nanos=0)

    assert grant(organization.slug) == "2.5\n"
    assert grant(organization.slug) == "2.5\n"

    assert grant(organization.slug, ref="invoice-8") == "5\n"
    assert budgets.wallet(organization).available == 5_000_000_000
    assert AuditEntry.objects.filter(reason="Paid by transfer").count() == 2


@pytest.mark.parametrize("amount", ["0", "-1", "five", "1e3", "0.0000000001"])
def test_an_amount_that_is_not_right_books_nothing(amount: str) -> None:
    organization = make_organization(nanos=0)

    with pytest.raises(CommandError):
        grant(organization.slug, amount)

    assert not LedgerTransaction.objects.exists()


def test_an_unknown_organization_is_an_error() -> None:
    with pytest.raises(CommandError, match="no organization"):
        grant("nobody")


def test_a_reference_is_not_cut_short() -> None:
    organization = make_organization(nanos=0)

    with pytest.raises(CommandError, match="80 characters"):
        grant(organization.slug, ref="r" * 81)
