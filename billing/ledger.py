"""The only writer of ledger entries."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Coalesce

from accounts.models import Organization, User
from billing.errors import LedgerError
from billing.models import LedgerAccount, LedgerEntry, LedgerTransaction

Kind = LedgerAccount.Kind
# Chart of accounts; `{}` is the organization's id.
CREDIT = ("tenant:{}:credit", Kind.LIABILITY)
EARNINGS = ("publisher:{}:accrued", Kind.LIABILITY)
PROMOTION = ("platform:promotion", Kind.EXPENSE)
REVENUE = ("platform:revenue", Kind.INCOME)


def account(
    template: tuple[str, str], organization: Organization | None = None, currency: str = "usd"
) -> LedgerAccount:
    """Return an account of the chart, opening it on first use."""
    code, kind = template
    found, _ = LedgerAccount.objects.get_or_create(
        code=code.format(organization.pk if organization else ""),
        defaults={"kind": kind, "currency": currency, "organization": organization},
    )
    return found


def post(
    kind: str,
    external_ref: str,
    entries: Mapping[LedgerAccount, int],
    *,
    organization: Organization | None = None,
    actor: User | None = None,
    reason: str = "",
) -> tuple[LedgerTransaction, bool]:
    """Book a transaction once; call it inside the transaction of its effect.

    Args:
        entries: Account → amount in nanos, debit positive, credit negative. Zeros are left out.

    Returns:
        The transaction, and whether this call made it (False: it was booked before).

    Raises:
        LedgerError: The entries do not sum to zero, or mix currencies.
    """
    lines = {found: amount for found, amount in entries.items() if amount}
    if sum(lines.values()) != 0 or len(lines) < 2:
        raise LedgerError(f"{kind} {external_ref} is not balanced: {list(lines.values())}.")
    if len({found.currency for found in lines}) != 1:
        raise LedgerError(f"{kind} {external_ref} mixes currencies.")
    with transaction.atomic():
        booked, is_new = LedgerTransaction.objects.get_or_create(
            kind=kind,
            external_ref=external_ref,
            defaults={"organization": organization, "actor": actor, "reason": reason[:500]},
        )
        if is_new:
            LedgerEntry.objects.bulk_create(
                LedgerEntry(transaction=booked, account=found, amount_nanos=amount)
                for found, amount in lines.items()
            )
    return booked, is_new


def balance(found: LedgerAccount) -> int:
    """Return the sum of an account's entries, in nanos: debit positive."""
    total: int = found.entries.aggregate(sum=Coalesce(Sum("amount_nanos"), 0))["sum"]
    return total
