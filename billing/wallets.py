"""What an organization has: paid credit, promotional credit, a credit line.

Every change is one ledger transaction, one change of the wallet's row and one of its budget, in
one transaction of the database, under the lock of the wallet's row.
`capacity - posted = paid + grants + line - owed` holds after each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import budgets, ledger
from billing.models import Budget, CreditGrant, LedgerAccount, LedgerTransaction, Wallet


def of(organization: Organization) -> Wallet:
    """Return the organization's wallet, opening it on first use."""
    found, _ = Wallet.objects.get_or_create(
        organization=organization, defaults={"currency": settings.CURRENCY}
    )
    return found


def lock(organization: Organization) -> Wallet:
    """Return the wallet locked until the transaction ends; before any budget is locked."""
    of(organization)
    return Wallet.objects.select_for_update().get(organization=organization)


def add_paid(
    organization: Organization,
    nanos: int,
    entries: Mapping[LedgerAccount, int],
    *,
    kind: str,
    external_ref: str,
    actor: User | None = None,
    reason: str = "",
    reversal_of: LedgerTransaction | None = None,
) -> tuple[LedgerTransaction, bool]:
    """Add paid credit (below zero takes it away), once per `(kind, external_ref)`.

    Args:
        entries: Where it comes from, such as {clearing: 5, tax: -1}; the credit is added here.

    Returns:
        The ledger transaction, and whether this call made it.
    """
    with transaction.atomic():
        wallet = lock(organization)
        credit = ledger.account(ledger.CREDIT, organization, wallet.currency)
        booked, is_new = ledger.post(
            kind,
            external_ref,
            {**entries, credit: -nanos},
            organization=organization,
            actor=actor,
            reason=reason,
            reversal_of=reversal_of,
        )
        if is_new:
            Wallet.objects.filter(pk=wallet.pk).update(paid_nanos=F("paid_nanos") + nanos)
            budgets.raise_capacity(budgets.wallet(organization), nanos)
    return booked, is_new


def add_grant(
    organization: Organization,
    nanos: int,
    *,
    kind: str,
    external_ref: str,
    reason: str,
    actor: User | None = None,
    expires_at: datetime | None = None,
) -> tuple[CreditGrant, bool]:
    """Give promotional credit, once per `(kind, external_ref)`; the platform pays for it."""
    with transaction.atomic():
        wallet = lock(organization)
        booked, is_new = ledger.post(
            kind,
            external_ref,
            {
                ledger.account(ledger.PROMOTION, currency=wallet.currency): nanos,
                ledger.account(ledger.PROMOTIONAL, organization, wallet.currency): -nanos,
            },
            organization=organization,
            actor=actor,
            reason=reason,
        )
        if not is_new:
            return booked.credit_grant, False
        grant = CreditGrant.objects.create(
            organization=organization,
            amount_nanos=nanos,
            remaining_nanos=nanos,
            reason=reason[:500],
            expires_at=expires_at,
            ledger_transaction=booked,
        )
        budgets.raise_capacity(budgets.wallet(organization), nanos)
    return grant, True


@dataclass(frozen=True, slots=True)
class Spent:
    """What a charge was paid with, in nanos."""

    promotional: int
    paid: int
    owed: int


def spend(wallet: Wallet, nanos: int) -> Spent:
    """Pay a charge: promotional credit first, then paid credit, then the credit line.

    The caller holds the wallet's lock, books the charge and moves the budgets. Without a credit
    line paid credit may fall below zero: only after some was taken back while a run was open.
    """
    promotional = use_grants(wallet.organization_id, nanos)
    rest = nanos - promotional
    paid = min(rest, max(wallet.paid_nanos, 0)) if wallet.line_nanos or wallet.owed_nanos else rest
    owed = rest - paid
    wallet.paid_nanos -= paid
    wallet.owed_nanos += owed
    wallet.save(update_fields=["paid_nanos", "owed_nanos"])
    return Spent(promotional, paid, owed)


def use_grants(organization_id: int, nanos: int) -> int:
    """Use promotional credit up, earliest expiry first; returns how much there was of `nanos`."""
    used = 0
    for grant in CreditGrant.objects.filter(
        organization_id=organization_id, remaining_nanos__gt=0
    ).select_for_update():
        if used == nanos:
            break
        part = min(grant.remaining_nanos, nanos - used)
        CreditGrant.objects.filter(pk=grant.pk).update(remaining_nanos=F("remaining_nanos") - part)
        used += part
    return used


def expire_grants(limit: int = 1000) -> int:
    """Let promotional credit lapse whose time is over; returns how many grants were touched.

    What open holds may still need of it stays until they have ended: the next round takes it.
    """
    due = CreditGrant.objects.filter(remaining_nanos__gt=0, expires_at__lte=timezone.now())
    found = list(due.order_by("expires_at").values_list("pk", flat=True)[:limit])
    return sum(_expire(grant_id) for grant_id in found)


def _expire(grant_id: int) -> bool:
    with transaction.atomic():
        organization = Organization.objects.get(credit_grants=grant_id)
        wallet = lock(organization)
        grant = CreditGrant.objects.select_for_update().get(pk=grant_id)
        budget = Budget.objects.select_for_update().get(pk=budgets.wallet(organization).pk)
        nanos = grant.remaining_nanos - budget.held
        if nanos <= 0:
            return False
        # A grant may lapse in parts, each with a reference of its own.
        left = grant.remaining_nanos - nanos
        ledger.post(
            "credit_expired",
            f"grant:{grant.pk}:{left}",
            {
                ledger.account(ledger.PROMOTIONAL, organization, wallet.currency): nanos,
                ledger.account(ledger.PROMOTION, currency=wallet.currency): -nanos,
            },
            organization=organization,
            reason=grant.reason,
        )
        CreditGrant.objects.filter(pk=grant.pk).update(remaining_nanos=left)
        budgets.raise_capacity(budget, -nanos)
    return True


def set_line(organization: Organization, nanos: int, *, actor: User, reason: str) -> Wallet:
    """Set how much an organization may use before it pays; 0 makes it prepaid again.

    Raises:
        ValueError: The amount is negative.
    """
    if nanos < 0:
        raise ValueError("A credit line is not negative.")
    with transaction.atomic():
        wallet = lock(organization)
        more = nanos - wallet.line_nanos
        wallet.line_nanos = nanos
        wallet.save(update_fields=["line_nanos"])
        budgets.raise_capacity(budgets.wallet(organization), more)
        audit.record(
            actor,
            "credit_line.set",
            organization,
            organization=organization,
            reason=reason,
            details={"nanos": nanos},
        )
    return wallet


def settle_owed(
    organization: Organization,
    nanos: int,
    entries: Mapping[LedgerAccount, int],
    *,
    kind: str,
    external_ref: str,
    actor: User | None = None,
    reason: str = "",
    reversal_of: LedgerTransaction | None = None,
) -> tuple[LedgerTransaction, bool]:
    """Take off what is owed, once: an invoice was paid, or is given up.

    Args:
        entries: Where it comes from, such as {clearing: 5}; the receivable is added here.
    """
    with transaction.atomic():
        wallet = lock(organization)
        receivable = ledger.account(ledger.RECEIVABLE, organization, wallet.currency)
        booked, is_new = ledger.post(
            kind,
            external_ref,
            {**entries, receivable: -nanos},
            organization=organization,
            actor=actor,
            reason=reason,
            reversal_of=reversal_of,
        )
        if is_new:
            Wallet.objects.filter(pk=wallet.pk).update(owed_nanos=F("owed_nanos") - nanos)
            budgets.raise_capacity(budgets.wallet(organization), nanos)
    return booked, is_new
