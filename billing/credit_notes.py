"""Corrections of invoices: credit notes, made at Stripe and booked here once each.

Of an invoice that is not paid a note takes off what is owed; of a paid one the money goes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accounts import audit
from accounts.errors import ConflictError, InvalidRequestError
from accounts.models import User
from billing import currencies, customers, ledger, minor, stripe_ops
from billing.errors import StripeUnavailableError
from billing.models import Invoice, LedgerTransaction
from billing.receivables import account, net_of, take_off, write_off
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError, StripeCallError

# Of the operation at Stripe, and of what is booked for it.
KIND = "credit_note"
_VOIDED = "credit_note_voided"
State = Invoice.State


def create(invoice: Invoice, coins: int, *, actor: User, reason: str, reference: str) -> None:
    """Correct an invoice, once per `reference`; what is booked follows from Stripe's answer.

    Args:
        coins: With tax. Of a paid invoice it goes back to the card.
        reference: Who asks, such as a form of the console.

    Raises:
        InvalidRequestError: More than what is left of the invoice.
        ConflictError: The invoice is neither open nor paid, or Stripe refused.
        StripeUnavailableError: Not known whether it was made; ask again with the same reference.
    """
    if invoice.state not in {State.FINALISED, State.PAID}:
        raise ConflictError("Only an open or paid invoice can be corrected.")
    wanted = {
        "invoice": invoice.stripe_invoice,
        "amount": coins,
        "refund_amount": coins if invoice.state == State.PAID else 0,
        "memo": reason[:500],
        "metadata": {"invoice": invoice.number},
    }
    params = customers.stripe_params(KIND, reference, wanted)
    left = invoice.total_minor - invoice.credited_minor
    if params is wanted and not 0 < coins <= left:
        raise InvalidRequestError(
            f"At most {currencies.text(left, invoice.currency)} is left of the invoice."
        )
    try:
        stripe_ops.run(KIND, reference, _call, params)
    except RejectedError as error:
        raise ConflictError(f"Stripe refused: {error.message}") from error
    except (StripeCallError, stripe_ops.OutcomeUnknownError) as error:
        raise StripeUnavailableError("Stripe does not answer. Send the form again.") from error
    audit.record(
        actor,
        "invoice.credit_note",
        invoice,
        organization=invoice.organization,
        reason=reason,
        details={"minor": coins, "reference": reference},
    )


def _call(params: Mapping[str, Any], key: str) -> objects.CreditNote:
    return client.gateway().create_credit_note(**params, key=key)


def follow(invoice: Invoice, notes: Sequence[objects.CreditNote]) -> None:
    """Book notes that are new, and take back those that were voided, oldest first.

    The caller holds the locks of the wallet and the invoice.
    """
    if invoice.state not in {State.FINALISED, State.PAID}:
        return
    credited = 0
    for note in sorted(notes, key=lambda each: (each.created_at, each.id)):
        if note.status == "issued":
            net = net_of(invoice, credited + note.amount) - net_of(invoice, credited)
            credited += note.amount
            if not _is_booked(KIND, note):
                _book(invoice, note, net)
        elif _is_booked(KIND, note) and not _is_booked(_VOIDED, note):
            _void(invoice, note)
    if credited != invoice.credited_minor:
        _set_credited(invoice, credited)


def _is_booked(kind: str, note: objects.CreditNote) -> bool:
    return LedgerTransaction.objects.filter(kind=kind, external_ref=note.id).exists()


def _book(invoice: Invoice, note: objects.CreditNote, net: int) -> None:
    if invoice.state == State.FINALISED:
        write_off(invoice, net, kind=KIND, external_ref=note.id)
        return
    coin = minor.coin(invoice.currency)
    ledger.post(
        KIND,
        note.id,
        {
            account(ledger.WRITE_OFF, invoice): net * coin,
            account(ledger.TAX, invoice): (note.amount - net) * coin,
            account(ledger.CLEARING, invoice): -note.amount * coin,
        },
        organization=invoice.organization,
        reason=invoice.number,
    )


def _void(invoice: Invoice, note: objects.CreditNote) -> None:
    """Take back a note of an invoice that is not paid: it is owed again."""
    booked = LedgerTransaction.objects.get(kind=KIND, external_ref=note.id)
    lost = account(ledger.WRITE_OFF, invoice)
    nanos = sum(entry.amount_nanos for entry in booked.entries.filter(account=lost))
    take_off(invoice, -nanos, {lost: -nanos}, kind=_VOIDED, external_ref=note.id)


def _set_credited(invoice: Invoice, coins: int) -> None:
    before, invoice.credited_minor = invoice.credited_minor, coins
    invoice.save(update_fields=["credited_minor"])
    audit.record(
        None,
        "invoice.credited",
        invoice,
        organization=invoice.organization,
        details={"before": before, "minor": coins},
    )
