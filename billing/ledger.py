"""The only writer of ledger entries.

A transaction is written and sealed in one go: its hash covers what it says, its entries, and the
hash of the transaction before it in the same book. Nobody can change, drop or slip one in without
breaking the chain; triggers (billing.triggers) refuse the attempt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import Organization, User
from billing.errors import LedgerError
from billing.models import LedgerAccount, LedgerBook, LedgerEntry, LedgerTransaction

Kind = LedgerAccount.Kind
# Chart of accounts; `{}` is the organization's id.
CREDIT = ("tenant:{}:credit", Kind.LIABILITY)
PROMOTIONAL = ("tenant:{}:promo", Kind.LIABILITY)
RECEIVABLE = ("tenant:{}:receivable", Kind.ASSET)
ACCRUED = ("publisher:{}:accrued", Kind.LIABILITY)
PAYABLE = ("publisher:{}:payable", Kind.LIABILITY)
CLEARING = ("stripe:clearing", Kind.ASSET)
FEES = ("stripe:fees", Kind.EXPENSE)
TAX = ("tax:payable", Kind.LIABILITY)
REVENUE = ("platform:revenue", Kind.INCOME)
PROMOTION = ("platform:promotion", Kind.EXPENSE)
WRITE_OFF = ("platform:writeoff", Kind.EXPENSE)
BREAKAGE = ("platform:breakage", Kind.INCOME)
# What a correction by hand is booked against until somebody has explained it.
SUSPENSE = ("platform:suspense", Kind.EXPENSE)

_PLATFORM = 0


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
    reversal_of: LedgerTransaction | None = None,
    details: Mapping[str, Any] | None = None,
) -> tuple[LedgerTransaction, bool]:
    """Book and seal a transaction once; call it inside the transaction of its effect.

    Args:
        entries: Account → amount in nanos, debit positive, credit negative. Zeros are left out.
        organization: Whose book it belongs to; None for the platform's own.
        details: What the entries do not say; JSON.

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
        # The book's lock comes first: whoever has it sees what was booked before.
        book = _lock_book(organization.pk if organization else _PLATFORM)
        booked, is_new = LedgerTransaction.objects.get_or_create(
            kind=kind,
            external_ref=external_ref,
            defaults={
                "organization": organization,
                "actor": actor,
                "reason": reason[:500],
                "posted_at": timezone.now(),
                "reversal_of": reversal_of,
                "details": dict(details or {}),
            },
        )
        if is_new:
            LedgerEntry.objects.bulk_create(
                LedgerEntry(transaction=booked, account=found, amount_nanos=amount)
                for found, amount in lines.items()
            )
            _seal(booked, book, [(found.code, amount) for found, amount in lines.items()])
    return booked, is_new


def _lock_book(organization_id: int) -> LedgerBook:
    LedgerBook.objects.get_or_create(organization_id=organization_id)
    return LedgerBook.objects.select_for_update().get(organization_id=organization_id)


def _seal(booked: LedgerTransaction, book: LedgerBook, entries: Iterable[tuple[str, int]]) -> None:
    booked.number, booked.previous_hash = book.length + 1, book.head
    booked.hash = digest(booked, entries)
    booked.is_sealed = True
    booked.save(update_fields=["number", "previous_hash", "hash", "is_sealed"])
    book.length, book.head = booked.number, booked.hash
    book.save(update_fields=["length", "head"])


def digest(booked: LedgerTransaction, entries: Iterable[tuple[str, int]]) -> str:
    """Return the SHA-256 that seals a transaction.

    Args:
        entries: (code of the account, amount in nanos) in any order.
    """
    content = [
        booked.previous_hash,
        booked.number,
        booked.kind,
        booked.external_ref,
        booked.organization_id,
        booked.actor_id,
        booked.reason,
        booked.posted_at.isoformat(),
        booked.reversal_of_id,
        booked.details,
        sorted(entries),
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(booked: LedgerTransaction) -> str:
    """Return the digest that a transaction should have, worked out from its rows."""
    return digest(
        booked, [(entry.account.code, entry.amount_nanos) for entry in booked.entries.all()]
    )


def reverse(
    booked: LedgerTransaction, *, kind: str, actor: User | None, reason: str
) -> tuple[LedgerTransaction, bool]:
    """Book the opposite of a transaction, once; the caller undoes what else it had changed."""
    entries = {entry.account: -entry.amount_nanos for entry in booked.entries.all()}
    return post(
        kind,
        f"reversal:{booked.pk}",
        entries,
        organization=booked.organization,
        actor=actor,
        reason=reason,
        reversal_of=booked,
    )


def balance(found: LedgerAccount) -> int:
    """Return the sum of an account's entries, in nanos: debit positive."""
    total: int = found.entries.aggregate(sum=Coalesce(Sum("amount_nanos"), 0))["sum"]
    return total


def balance_of(template: tuple[str, str], organization: Organization | None = None) -> int:
    """Return the same for an account of the chart, which need not exist yet."""
    code = template[0].format(organization.pk if organization else "")
    total: int = LedgerEntry.objects.filter(account__code=code).aggregate(
        sum=Coalesce(Sum("amount_nanos"), 0)
    )["sum"]
    return total
