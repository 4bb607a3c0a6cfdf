"""What Stripe's webhooks about payments, refunds, disputes and cards do.

None of them says what happened: each is a reason to read the payment at Stripe again.
"""

from __future__ import annotations

from billing import customers, payments
from billing.models import StripeEvent, Wallet
from billing.payments import Facts
from billing.stripe import client
from billing.stripe.errors import RejectedError
from billing.webhooks import handles

_SETUP = "setup"


def _by_session(event: StripeEvent) -> Facts | None:
    return payments.of_session(event.object_id)


def _by_intent(event: StripeEvent) -> Facts | None:
    return payments.of_intent(event.object_id)


def _by_charge(event: StripeEvent) -> Facts | None:
    return payments.of_charge(event.object_id)


def _by_refund(event: StripeEvent) -> Facts | None:
    refund = client.gateway().retrieve_refund(event.object_id)
    return payments.of_intent(refund.payment_intent, is_thorough=True)


def _by_dispute(event: StripeEvent) -> Facts | None:
    dispute = client.gateway().retrieve_dispute(event.object_id)
    return payments.of_intent(dispute.payment_intent, is_thorough=True)


def take_effect(event: StripeEvent, facts: Facts | None) -> None:
    """Let the payment take effect as it is now; one that is not a top-up is somebody else's."""
    if facts is not None:
        payments.apply(facts)


handles(
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    fetch=_by_session,
)(take_effect)
handles("payment_intent.succeeded", "payment_intent.payment_failed", fetch=_by_intent)(take_effect)
handles("charge.refunded", "charge.updated", fetch=_by_charge)(take_effect)
handles("refund.created", "refund.updated", "refund.failed", fetch=_by_refund)(take_effect)
handles(
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
    fetch=_by_dispute,
)(take_effect)


def saved_card(session_id: str) -> customers.SavedCard | None:
    """Read which card was saved on a page of ours; None if none was."""
    gateway = client.gateway()
    session = gateway.retrieve_session(session_id)
    if session.mode != _SETUP or not session.setup_intent_id:
        return None
    intent = gateway.retrieve_setup_intent(session.setup_intent_id)
    if intent.status != "succeeded":
        return None
    return _look(session.customer, intent.payment_method)


def _look(customer: str, card: str) -> customers.SavedCard | None:
    try:
        return customers.look_at_card(customer, card)
    except RejectedError:
        # It was removed in the meantime.
        return None


def _saved(event: StripeEvent) -> customers.SavedCard | None:
    return saved_card(event.object_id)


@handles("checkout.session.completed", fetch=_saved)
def card_saved(event: StripeEvent, saved: customers.SavedCard | None) -> None:
    """Keep the card that was saved on a page of ours."""
    if saved is not None:
        customers.remember(saved)


def _still_there(event: StripeEvent) -> bool:
    """Whether the card of an event can still be charged, by its customer here."""
    wallet = Wallet.objects.filter(payment_method=event.object_id).first()
    return wallet is not None and _look(wallet.stripe_customer, event.object_id) is not None


@handles("payment_method.detached", fetch=_still_there)
def card_removed(event: StripeEvent, is_there: bool) -> None:
    """Forget a card that its owner has removed at Stripe."""
    if not is_there:
        customers.forget(event.object_id)


def _preferred(event: StripeEvent) -> customers.SavedCard | None:
    wallet = Wallet.objects.filter(stripe_customer=event.object_id).first()
    before = event.payload.get("data", {}).get("previous_attributes") or {}
    # Other changes of a customer do not choose a card.
    if wallet is None or (wallet.payment_method and "invoice_settings" not in before):
        return None
    customer = client.gateway().retrieve_customer(event.object_id)
    if customer.is_deleted or not customer.default_payment_method:
        return None
    return _look(customer.id, customer.default_payment_method)


def _first(event: StripeEvent) -> customers.SavedCard | None:
    card = client.gateway().retrieve_card(event.object_id)
    wallet = Wallet.objects.filter(stripe_customer=card.customer, payment_method="").first()
    return _look(card.customer, card.id) if wallet and card.customer else None


@handles("customer.updated", fetch=_preferred)
@handles("payment_method.attached", fetch=_first)
def card_chosen(event: StripeEvent, saved: customers.SavedCard | None) -> None:
    """Keep the card that its owner made the default at Stripe, or added as the first one."""
    if saved is not None:
        customers.remember(saved)
