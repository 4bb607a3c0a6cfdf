"""What invoices leave owed, and how it is taken off; the caller holds the invoice's lock."""

from __future__ import annotations

from billing import ledger, minor, wallets
from billing.models import Invoice, LedgerAccount


def account(template: tuple[str, str], invoice: Invoice) -> LedgerAccount:
    """Return an account of the platform's chart, in the invoice's currency."""
    return ledger.account(template, currency=invoice.currency)


def net_of(invoice: Invoice, total: int) -> int:
    """Return what of an amount with tax is not tax, in coins.

    Ask for cumulative amounts and take the difference: so the parts add up to the whole.
    """
    return total * invoice.subtotal_minor // invoice.total_minor if invoice.total_minor else 0


def take_off(
    invoice: Invoice,
    nanos: int,
    entries: dict[LedgerAccount, int],
    *,
    kind: str,
    external_ref: str,
) -> None:
    """Take what is owed off, once per reference; below zero it is owed again."""
    if nanos:
        wallets.settle_owed(
            invoice.organization,
            nanos,
            entries,
            kind=kind,
            external_ref=external_ref,
            reason=invoice.number,
        )


def settle(
    invoice: Invoice,
    nanos: int,
    entries: dict[LedgerAccount, int],
    *,
    kind: str,
    external_ref: str,
) -> None:
    """Take what is owed off, with its tax; if nothing was owed, what remains of the entries."""
    if nanos:
        take_off(invoice, nanos, entries, kind=kind, external_ref=external_ref)
    elif any(entries.values()):
        ledger.post(
            kind,
            external_ref,
            entries,
            organization=invoice.organization,
            reason=invoice.number,
        )


def to_credit(invoice: Invoice, nanos: int, *, kind: str, external_ref: str) -> int:
    """Turn what comes in beyond what is owed into paid credit, once; returns how much that is.

    Args:
        nanos: What comes in for the invoice, without tax.
    """
    organization = invoice.organization
    surplus = max(nanos - wallets.lock(organization).owed_nanos, 0)
    if surplus:
        wallets.add_paid(
            organization,
            surplus,
            {account(ledger.CLEARING, invoice): surplus},
            kind=kind,
            external_ref=external_ref,
            reason=invoice.number,
        )
    return surplus


def write_off(invoice: Invoice, net: int, *, kind: str, external_ref: str) -> None:
    """Give up what nobody will pay, as far as it is owed; `net` in coins, without tax."""
    owed = wallets.lock(invoice.organization).owed_nanos
    nanos = min(minor.to_nanos(net, invoice.currency), owed)
    entries = {account(ledger.WRITE_OFF, invoice): nanos}
    take_off(invoice, nanos, entries, kind=kind, external_ref=external_ref)
