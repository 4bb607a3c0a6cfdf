"""Payments: what the ledger and Stripe differ by, and what only Stripe can say."""

from __future__ import annotations

from collections.abc import Callable

from accounts.errors import ConflictError
from accounts.models import User
from billing import invoice_disputes, ledger, meter_sender, payments, payouts, wallets, webhooks
from billing.models import (
    Dispute,
    Finding,
    Invoice,
    LedgerTransaction,
    MeterReport,
    Payout,
    StripeEvent,
    TopUp,
)
from billing.repairs.case import KIND, Case


def clearing(case: Case) -> LedgerTransaction:
    """Let the ledger say what moved at Stripe.

    Money of a payment that was credited to nobody is its organization's; of anything else only
    somebody who has looked can say what it is, so it waits in the account of what is unexplained.
    """
    nanos, account = case.missing, ledger.account(ledger.CLEARING)
    top_up = _uncredited(case)
    if top_up is None or nanos <= 0:
        return case.book({account: nanos, ledger.account(ledger.SUSPENSE): -nanos})
    booked, _ = wallets.add_paid(
        top_up.organization,
        nanos,
        {account: nanos},
        kind=KIND,
        external_ref=f"finding:{case.finding.pk}",
        actor=case.actor,
        reason=case.reason,
    )
    return booked


def _uncredited(case: Case) -> TopUp | None:
    if not case.finding.subject.startswith("top_up:"):
        return None
    return TopUp.objects.filter(pk=case.key).exclude(state=TopUp.State.CREDITED).first()


def disputed(case: Case) -> None:
    """Book what disputes have taken of an invoice and the ledger does not show."""
    invoice = Invoice.objects.select_for_update().get(number=case.key)
    invoice.organization = case.organization
    gone = sum(Dispute.objects.filter(invoice=invoice).values_list("withdrawn_minor", flat=True))
    invoice_disputes.book(invoice, gone)


def payout(case: Case) -> LedgerTransaction:
    """Take back the booking of a payout that was refused: it is payable again."""
    row = Payout.objects.select_for_update().get(pk=case.key)
    if row.state != Payout.State.FAILED or row.ledger_transaction.reversals.exists():
        raise ConflictError("Look at the payout at Stripe: its row and its booking differ.")
    booked, _ = ledger.reverse(
        row.ledger_transaction, kind=payouts.KIND_FAILED, actor=case.actor, reason=case.reason
    )
    return booked


def nothing_more(case: Case) -> None:
    """Close the finding: asking Stripe has put it right."""


# What asks Stripe, before the transaction that closes the finding -----------------------------

Ask = Callable[[Finding, User, str], None]


def look_again(finding: Finding, actor: User, reason: str) -> None:
    """Read a top-up's payment at Stripe, and let it take effect."""
    top_up = TopUp.objects.get(pk=finding.subject.partition(":")[2])
    payments.sync(lambda: payments.of_session(top_up.checkout_session))
    top_up.refresh_from_db()
    if top_up.state == TopUp.State.PENDING:
        raise ConflictError("Stripe says by now that it is neither paid nor expired.")


def fetch_event(finding: Finding, actor: User, reason: str) -> None:
    """Fetch an event that never arrived, or let a dead one be handled again."""
    name = finding.subject.partition(":")[2]
    if not StripeEvent.objects.filter(pk=name).exists():
        webhooks.backfill()
    event = StripeEvent.objects.filter(pk=name).first()
    if event is None:
        raise ConflictError("Stripe does not have this event any more.")
    if event.state == StripeEvent.State.DEAD:
        webhooks.retry(event, actor=actor, reason=reason)


def send_again(finding: Finding, actor: User, reason: str) -> None:
    """Let a rejected report of usage be sent again, under its own identifier."""
    report = MeterReport.objects.get(pk=finding.subject.partition(":")[2])
    if not meter_sender.retry(report, actor=actor, reason=reason):
        raise ConflictError(
            "It was not rejected: it is sent by itself, as soon as Stripe takes it."
        )
