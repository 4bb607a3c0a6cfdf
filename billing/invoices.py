"""Invoices: a gapless number and a frozen statement, made in one transaction.

The number comes from a row that is locked while it is given, so that numbers are given in order
and none is lost: who dies before the commit has taken none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import crashes, currencies, invoice_lines, months, wallets
from billing.invoice_lines import Amounts, Line
from billing.models import BillingPeriod, Invoice, InvoiceSeries
from billing.money import decimal_text
from billing.stripe import client, objects

# Changes when the frozen statement gets another shape; old ones keep theirs.
VERSION = 1
_DIGITS = 6


def canonical(frozen: Mapping[str, Any]) -> bytes:
    """Return the one spelling of a statement that its SHA-256 is of."""
    text = json.dumps(frozen, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest(frozen: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a statement."""
    return hashlib.sha256(canonical(frozen)).hexdigest()


def next_number(series: str) -> str:
    """Return the next number of a series; call it inside the transaction that uses it."""
    InvoiceSeries.objects.get_or_create(name=series)
    row = InvoiceSeries.objects.select_for_update().get(name=series)
    row.last_number += 1
    row.save(update_fields=["last_number"])
    return f"{series}-{row.last_number:0{_DIGITS}d}"


def issue(period: BillingPeriod, billed: objects.Invoice | None) -> Invoice | None:
    """Number and freeze the invoice of a month, and close the month, in one transaction.

    Args:
        period: Its draft is checked.
        billed: Stripe's invoice, final; None if nothing is owed and there is none.

    Returns:
        The invoice; None if there is nothing to pay. A month that is closed gives the same again.
    """
    with transaction.atomic():
        # No usage is booked while the statement is written.
        wallets.lock(period.organization)
        locked = BillingPeriod.objects.select_for_update().get(pk=period.pk)
        if locked.state != BillingPeriod.State.DRAFT_CHECKED:
            return Invoice.objects.filter(period=period).first()
        found = invoice_lines.amounts(locked)
        found = found.billed(billed.subtotal if billed else 0)
        crashes.point("close.issuing")
        invoice = _create(locked, found, billed) if billed and billed.total else None
        crashes.point("close.numbered")
        BillingPeriod.objects.filter(pk=period.pk).update(
            state=BillingPeriod.State.FINALISED, changed_at=timezone.now()
        )
    crashes.point("close.issued")
    return invoice


def _create(period: BillingPeriod, found: Amounts, billed: objects.Invoice) -> Invoice:
    now = timezone.now()
    lines = invoice_lines.lines(period, found)
    number = next_number(f"{settings.INVOICE_PREFIX}-{now.year}")
    # As it is stored: what is hashed is what is read back.
    frozen = json.loads(
        canonical(_statement(period, found, billed, lines, number, now.isoformat()))
    )
    return Invoice.objects.create(
        number=number,
        organization=period.organization,
        period=period,
        currency=period.currency,
        used_nanos=found.used_nanos,
        carried_in_nanos=found.carried_in_nanos,
        carried_out_nanos=found.carried_out_nanos,
        subtotal_minor=billed.subtotal,
        tax_minor=billed.tax,
        total_minor=billed.total,
        stripe_invoice=billed.id,
        hosted_url=billed.hosted_url,
        frozen=frozen,
        sha256=digest(frozen),
        issued_at=now,
    )


def _statement(
    period: BillingPeriod,
    found: Amounts,
    billed: objects.Invoice,
    lines: Sequence[Line],
    number: str,
    issued_at: str,
) -> dict[str, Any]:
    currency = period.currency
    coins = currencies.spread([line.nanos for line in lines], currency)
    return {
        "version": VERSION,
        "number": number,
        "issued_at": issued_at,
        "currency": currency,
        "seller": {
            "name": settings.SELLER_NAME,
            "address": settings.SELLER_ADDRESS,
            "tax_id": settings.SELLER_TAX_ID,
        },
        "customer": {"name": period.organization.name, "slug": period.organization.slug},
        "period": {
            "month": f"{period.month:%Y-%m}",
            "from": months.start(period.month).isoformat(),
            "until": months.end(period.month).isoformat(),
        },
        "lines": [
            {
                "kind": line.kind,
                "model": line.model,
                "key": line.key,
                "calls": line.calls,
                "exact": decimal_text(line.nanos),
                "amount": currencies.text(amount, currency),
            }
            for line, amount in zip(lines, coins, strict=True)
        ],
        "used": decimal_text(found.used_nanos),
        "carried_in": decimal_text(found.carried_in_nanos),
        "carried_out": decimal_text(found.carried_out_nanos),
        "subtotal": currencies.text(billed.subtotal, currency),
        "tax": currencies.text(billed.tax, currency),
        "total": currencies.text(billed.total, currency),
        "stripe": {"invoice": billed.id, "number": billed.number, "live": client.is_live()},
    }
