"""Histories of what happens at Stripe: each event type that the site handles is in at least one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.billing.stripe import histories_of_invoices as of_invoices
from tests.billing.stripe import histories_of_payers as of_payers
from tests.billing.stripe.stage import Moments, Stage


@dataclass(frozen=True, slots=True)
class History:
    """What happens, and the webhooks that the site gets of it and handles."""

    play: Callable[[Stage], Moments]
    told: str

    @property
    def events(self) -> list[str]:
        """The types of the webhooks, in order."""
        return self.told.split()


# A payment page that is paid at once, a refund, a dispute, its good end, a month, its payment.
PAGE = (
    "payment_intent.succeeded invoice.created invoice.finalized invoice.paid "
    "checkout.session.completed"
)
REFUND = "refund.created charge.refunded"
DISPUTE = "charge.dispute.created charge.dispute.funds_withdrawn"
WON = "charge.dispute.funds_reinstated charge.dispute.closed"
BILLED = "invoice.created customer.subscription.updated invoice.finalized"
PAID = "payment_intent.succeeded invoice.paid"

_ALL = (
    History(of_payers.top_up_paid, PAGE),
    History(
        of_payers.top_up_paid_with_tax_and_a_card_to_keep,
        "payment_intent.succeeded payment_method.attached invoice.created "
        "invoice.finalized invoice.paid checkout.session.completed",
    ),
    History(
        of_payers.top_up_paid_later,
        "checkout.session.completed payment_intent.succeeded invoice.created "
        "invoice.finalized invoice.paid checkout.session.async_payment_succeeded",
    ),
    History(
        of_payers.top_up_that_failed_later,
        "checkout.session.completed payment_intent.payment_failed "
        "checkout.session.async_payment_failed",
    ),
    History(of_payers.top_up_expired, "checkout.session.expired"),
    History(of_payers.top_up_declined_then_paid, f"payment_intent.payment_failed {PAGE}"),
    History(of_payers.top_up_refunded_in_part_and_in_whole, f"{PAGE} {REFUND} {REFUND}"),
    History(of_payers.top_up_refunded_in_whole, f"{REFUND} charge.updated"),
    History(of_payers.refund_of_the_site_that_arrives, "refund.updated"),
    History(
        of_payers.refund_of_the_site_that_the_bank_sends_back,
        f"refund.failed refund.updated {REFUND}",
    ),
    History(of_payers.top_up_disputed_and_won, f"{DISPUTE} charge.dispute.updated {WON}"),
    History(
        of_payers.top_up_disputed_and_lost,
        f"{DISPUTE} charge.dispute.updated charge.dispute.closed",
    ),
    History(
        of_payers.top_up_disputed_in_part_and_lost,
        f"{DISPUTE} charge.dispute.updated charge.dispute.closed",
    ),
    History(
        of_payers.top_up_with_all_that_can_happen,
        f"{PAGE} {REFUND} {DISPUTE} {WON} {REFUND} {DISPUTE}",
    ),
    History(of_payers.auto_reload, "payment_intent.succeeded"),
    History(of_payers.auto_reload_declined, "payment_intent.payment_failed"),
    History(
        of_payers.card_saved_preferred_and_removed,
        "payment_method.attached checkout.session.completed payment_method.attached "
        "customer.updated payment_method.detached",
    ),
    History(of_invoices.invoice_paid, f"{BILLED} {PAID}"),
    History(
        of_invoices.invoice_failed_and_voided, f"{BILLED} invoice.payment_failed invoice.voided"
    ),
    History(
        of_invoices.invoice_given_up_and_paid_after_all,
        f"invoice.marked_uncollectible payment_method.attached {PAID}",
    ),
    History(
        of_invoices.draft_that_cannot_be_made_final,
        "invoice.created customer.subscription.updated invoice.finalization_failed",
    ),
    History(
        of_invoices.invoice_corrected_before_it_is_paid,
        "credit_note.created credit_note.created credit_note.voided",
    ),
    History(of_invoices.invoice_paid_and_given_back_in_part, f"{REFUND} credit_note.created"),
    History(of_invoices.invoice_disputed_and_won, f"{DISPUTE} {WON}"),
    History(of_invoices.invoice_disputed_and_lost, f"{DISPUTE} charge.dispute.closed"),
    History(
        of_invoices.invoice_with_all_that_can_happen,
        f"{BILLED} invoice.payment_failed credit_note.created payment_method.attached "
        f"{PAID} {DISPUTE} {WON} {DISPUTE}",
    ),
    History(
        of_invoices.subscription_ended,
        "customer.subscription.updated invoice.created customer.subscription.deleted",
    ),
    History(of_invoices.account_opened_and_stopped, "account.updated account.updated"),
    History(of_invoices.bank_that_refuses_and_then_takes, "payout.failed payout.paid"),
    History(
        of_invoices.payout_that_comes_back_in_parts,
        "transfer.created transfer.reversed transfer.reversed transfer.updated",
    ),
)
HISTORIES: dict[str, History] = {each.play.__name__: each for each in _ALL}
