"""Takes payments of invoices back that a bank takes back: cumulative, per invoice.

As with top-ups (billing.clawback), what should be gone by now is worked out from all disputes
together, and only the difference to what the ledger shows is booked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db.models import F, QuerySet, Sum

from billing import disputes, ledger, minor
from billing.models import Invoice, LedgerEntry
from billing.receivables import account, net_of, settle, to_credit
from billing.stripe import objects

KIND = "invoice_disputed"


def follow(invoice: Invoice, found: Sequence[objects.Dispute]) -> None:
    """Book what is to be owed again, or is paid again, and freeze who disputes.

    Args:
        invoice: Locked, with its organization's wallet.
        found: All disputes of all its payments.
    """
    changed = disputes.follow(invoice, found)
    # What is not booked as paid cannot be taken back; once it is, this is asked again.
    if invoice.state == Invoice.State.PAID:
        changed |= book(invoice, disputes.withdrawn(found))
    if changed:
        Invoice.objects.filter(pk=invoice.pk).update(revision=F("revision") + 1)


def target(invoice: Invoice, gone: int) -> dict[str, int]:
    """Return what the disputes of an invoice sum to in the ledger: debit positive, in nanos.

    Of what is gone, tax and use have the same part as they have of the invoice. No more is owed
    again than was paid and not given back by credit notes: the rest is a loss of the site's.

    Args:
        gone: Coins that Stripe has taken and not given back.
    """
    credited = net_of(invoice, invoice.credited_minor)
    net = net_of(invoice, gone)
    of_use = min(net, invoice.subtotal_minor - credited)
    of_tax = min(gone - net, invoice.tax_minor - (invoice.credited_minor - credited))
    coins = {"owed": of_use, "tax": of_tax, "loss": gone - of_use - of_tax, "clearing": -gone}
    return {name: minor.to_nanos(each, invoice.currency) for name, each in coins.items()}


def booked(invoice: Invoice) -> Mapping[str, int]:
    """Return what the ledger shows so far, by the names of `target`."""
    sums = dict(
        _transactions(invoice)
        .values_list("account__code")
        .annotate(total=Sum("amount_nanos"))
        .values_list("account__code", "total")
    )
    owner = invoice.organization_id
    # What came back and was not owed any more has become credit.
    owed = (ledger.RECEIVABLE[0].format(owner), ledger.CREDIT[0].format(owner))
    return {
        "owed": sum(sums.get(code, 0) for code in owed),
        "tax": sums.get(ledger.TAX[0], 0),
        "loss": sums.get(ledger.WRITE_OFF[0], 0),
        "clearing": sums.get(ledger.CLEARING[0], 0),
    }


def _transactions(invoice: Invoice) -> QuerySet[LedgerEntry]:
    return LedgerEntry.objects.filter(
        transaction__kind=KIND, transaction__external_ref__startswith=f"{invoice.stripe_invoice}:"
    ).order_by()


def book(invoice: Invoice, gone: int) -> bool:
    """Book what the ledger does not show yet; returns whether there was anything.

    Args:
        invoice: Paid, and locked, with its organization's wallet.
        gone: Coins that Stripe has taken and not given back.
    """
    wanted, known = target(invoice, max(gone, 0)), booked(invoice)
    delta = {name: nanos - known[name] for name, nanos in wanted.items()}
    if not any(delta.values()):
        return False
    number = _transactions(invoice).values("transaction").distinct().count() + 1
    reference = f"{invoice.stripe_invoice}:{number}"
    back = -delta["owed"]
    surplus = to_credit(invoice, back, kind=KIND, external_ref=f"{reference}:credit")
    entries = {
        account(ledger.TAX, invoice): delta["tax"],
        account(ledger.WRITE_OFF, invoice): delta["loss"],
        account(ledger.CLEARING, invoice): delta["clearing"] - surplus,
    }
    settle(invoice, back - surplus, entries, kind=KIND, external_ref=reference)
    return True
