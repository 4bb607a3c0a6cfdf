"""Prepaid credit: given and taken back, always with a ledger transaction."""

from __future__ import annotations

from django.db import transaction

from accounts import audit
from accounts.models import Organization, User
from billing import budgets, ledger
from billing.models import LedgerTransaction


def grant(
    organization: Organization,
    nanos: int,
    *,
    external_ref: str,
    reason: str,
    kind: str = "credit_granted",
    actor: User | None = None,
) -> LedgerTransaction:
    """Give credit, once per `external_ref`: the platform's promotion pays for it.

    Raises:
        ValueError: The amount is not positive.
    """
    return _move(organization, nanos, external_ref, reason, kind, actor, sign=1)


def take(
    organization: Organization,
    nanos: int,
    *,
    external_ref: str,
    reason: str,
    kind: str = "credit_taken",
    actor: User | None = None,
) -> LedgerTransaction:
    """Take credit back, once per `external_ref`; the balance may fall below zero.

    Raises:
        ValueError: The amount is not positive.
    """
    return _move(organization, nanos, external_ref, reason, kind, actor, sign=-1)


def _move(
    organization: Organization,
    nanos: int,
    external_ref: str,
    reason: str,
    kind: str,
    actor: User | None,
    *,
    sign: int,
) -> LedgerTransaction:
    if nanos <= 0:
        raise ValueError("The amount must be positive.")
    with transaction.atomic():
        booked, is_new = ledger.post(
            kind,
            external_ref,
            {
                ledger.account(ledger.PROMOTION): sign * nanos,
                ledger.account(ledger.CREDIT, organization): -sign * nanos,
            },
            organization=organization,
            actor=actor,
            reason=reason,
        )
        if is_new:
            budgets.raise_capacity(budgets.wallet(organization), sign * nanos)
            audit.record(
                actor,
                kind.replace("_", "."),
                organization,
                organization=organization,
                reason=reason,
                details={"nanos": sign * nanos, "ref": external_ref},
            )
    return booked
