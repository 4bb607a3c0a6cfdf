"""Credit given and taken back by the platform, always with a ledger transaction and a reason."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import F

from accounts import audit
from accounts.models import Organization, User
from billing import budgets, ledger, wallets
from billing.models import LedgerTransaction, Wallet


def grant(
    organization: Organization,
    nanos: int,
    *,
    external_ref: str,
    reason: str,
    kind: str = "credit_granted",
    actor: User | None = None,
    expires_at: datetime | None = None,
) -> LedgerTransaction:
    """Give promotional credit, once per `external_ref`.

    Raises:
        ValueError: The amount is not positive.
    """
    _require_positive(nanos)
    with transaction.atomic():
        given, is_new = wallets.add_grant(
            organization,
            nanos,
            kind=kind,
            external_ref=external_ref,
            reason=reason,
            actor=actor,
            expires_at=expires_at,
        )
        if is_new:
            _audit(organization, kind, nanos, external_ref, actor, reason)
    return given.ledger_transaction


def take(
    organization: Organization,
    nanos: int,
    *,
    external_ref: str,
    reason: str,
    kind: str = "credit_taken",
    actor: User | None = None,
) -> LedgerTransaction:
    """Take credit back, once per `external_ref`: promotional first, then paid.

    The balance may fall below zero.

    Raises:
        ValueError: The amount is not positive.
    """
    _require_positive(nanos)
    with transaction.atomic():
        wallet = wallets.lock(organization)
        booked = LedgerTransaction.objects.filter(kind=kind, external_ref=external_ref).first()
        if booked is not None:
            return booked
        promotional = wallets.use_grants(organization.pk, nanos)
        booked, _ = ledger.post(
            kind,
            external_ref,
            {
                ledger.account(ledger.PROMOTIONAL, organization, wallet.currency): promotional,
                ledger.account(ledger.CREDIT, organization, wallet.currency): nanos - promotional,
                ledger.account(ledger.PROMOTION, currency=wallet.currency): -nanos,
            },
            organization=organization,
            actor=actor,
            reason=reason,
        )
        Wallet.objects.filter(pk=wallet.pk).update(
            paid_nanos=F("paid_nanos") - (nanos - promotional)
        )
        budgets.raise_capacity(budgets.wallet(organization), -nanos)
        _audit(organization, kind, -nanos, external_ref, actor, reason)
    return booked


def _require_positive(nanos: int) -> None:
    if nanos <= 0:
        raise ValueError("The amount must be positive.")


def _audit(
    organization: Organization,
    kind: str,
    nanos: int,
    external_ref: str,
    actor: User | None,
    reason: str,
) -> None:
    audit.record(
        actor,
        kind.replace("_", "."),
        organization,
        organization=organization,
        reason=reason,
        details={"nanos": nanos, "ref": external_ref},
    )
