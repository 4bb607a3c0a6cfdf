"""One payment as Stripe knows it now, and the one place that lets it take effect here.

Every webhook, page and job about a payment does the same: read all of it at Stripe (`of_session`,
`of_intent`, …), then write in one transaction (`apply`). So their order and number do not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from billing import clawback, customers, payment_states, refund_states, stripe_fees, wallets
from billing.models import TopUp
from billing.staleness import StaleError, until_fresh
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError

State = TopUp.State


@dataclass(frozen=True, slots=True)
class Facts:
    """What Stripe says of one top-up.

    Attributes:
        top_up: Whose payment it is.
        revision: The top-up's, before Stripe was asked.
        session: The visit of the payment page; None for a card charged without its owner.
        intent: The payment; None while nobody has tried to pay.
        refunds: All of them, with those that failed.
        disputes: All of them.
        card: The card that was saved with the payment.
        has_all: Whether refunds and disputes were asked for.
    """

    top_up: TopUp
    revision: int
    session: objects.CheckoutSession | None
    intent: objects.PaymentIntent | None
    refunds: tuple[objects.Refund, ...] = ()
    disputes: tuple[objects.Dispute, ...] = ()
    card: customers.SavedCard | None = None
    has_all: bool = False


# Reading ------------------------------------------------------------------------------------


def of_session(session_id: str) -> Facts | None:
    """Read a payment by its payment page; None if it is none of ours."""
    top_up = TopUp.objects.filter(checkout_session=session_id).first() if session_id else None
    revision = top_up.revision if top_up else 0
    session = client.gateway().retrieve_session(session_id)
    # The webhook may be faster than the process that opened the page.
    top_up = top_up or _named(session.metadata)
    if top_up is None or top_up.kind != TopUp.Kind.CHECKOUT:
        return None
    return _read(top_up, revision, session, session.payment_intent)


def of_intent(intent_id: str, *, is_thorough: bool = False) -> Facts | None:
    """Read a payment by its id; None if it is none of ours.

    Args:
        is_thorough: Whether refunds and disputes are asked for in any case.
    """
    if not intent_id:
        return None
    top_up = TopUp.objects.filter(payment_intent=intent_id).first()
    revision = top_up.revision if top_up else 0
    intent = client.gateway().retrieve_payment_intent(intent_id)
    top_up = top_up or _named(intent.metadata)
    if top_up is None:
        return None
    session = _session_of(top_up)
    if session is not None and session.payment_intent_id != intent_id:
        # Somebody wrote our top-up's name on another payment.
        return None
    return _read(top_up, revision, session, intent, is_thorough=is_thorough)


def of_charge(charge_id: str) -> Facts | None:
    """Read a payment by its charge, thoroughly."""
    charge = client.gateway().retrieve_charge(charge_id)
    return of_intent(charge.payment_intent, is_thorough=True)


def _session_of(top_up: TopUp) -> objects.CheckoutSession | None:
    if not top_up.checkout_session:
        return None
    return client.gateway().retrieve_session(top_up.checkout_session)


def _named(metadata: object) -> TopUp | None:
    name = metadata.get("top_up", "") if hasattr(metadata, "get") else ""
    try:
        return TopUp.objects.filter(pk=UUID(name)).first()
    except ValueError:
        return None


def _read(
    top_up: TopUp,
    revision: int,
    session: objects.CheckoutSession | None,
    intent: objects.PaymentIntent | None,
    *,
    is_thorough: bool = False,
) -> Facts:
    charge = intent.charge if intent else None
    was_touched = bool(charge and (charge.amount_refunded or charge.is_disputed))
    if intent is None or not (is_thorough or was_touched or revision or top_up.refunded_nanos):
        return Facts(top_up, revision, session, intent, card=_card(session, intent))
    gateway = client.gateway()
    return Facts(
        top_up,
        revision,
        session,
        intent,
        refunds=tuple(gateway.list_refunds(payment_intent=intent.id)),
        disputes=tuple(gateway.list_disputes(payment_intent=intent.id)),
        card=_card(session, intent),
        has_all=True,
    )


def _card(
    session: objects.CheckoutSession | None, intent: objects.PaymentIntent | None
) -> customers.SavedCard | None:
    if session is None or intent is None or not session.metadata.get("save_card"):
        return None
    if intent.status != "succeeded" or not intent.payment_method:
        return None
    try:
        return customers.look_at_card(session.customer, intent.payment_method)
    except RejectedError:
        # It was removed in the meantime.
        return None


# Writing ------------------------------------------------------------------------------------


def sync(read: Callable[[], Facts | None]) -> TopUp | None:
    """Read a payment and let it take effect; returns the top-up, None if it is none of ours.

    Raises:
        StripeCallError: Stripe did not answer.
        StaleError: It changes faster than it can be read.
    """

    def act() -> TopUp | None:
        facts = read()
        if facts is None:
            return None
        apply(facts)
        facts.top_up.refresh_from_db()
        return facts.top_up

    return until_fresh(act)


def apply(facts: Facts) -> None:
    """Let a payment take effect, in one transaction: credit, refunds, disputes, the saved card.

    Raises:
        StaleError: Somebody else has let a refund or dispute take effect since it was read.
    """
    with transaction.atomic():
        organization = facts.top_up.organization
        wallet = wallets.lock(organization)
        top_up = TopUp.objects.select_for_update().get(pk=facts.top_up.pk)
        if facts.has_all and top_up.revision != facts.revision:
            raise StaleError(f"{top_up} is at revision {top_up.revision}, not {facts.revision}")
        top_up.organization = organization
        if top_up.state != State.CREDITED:
            _take_effect(top_up, facts, wallet.stripe_customer)
        if top_up.state == State.CREDITED:
            _complete(top_up, facts.intent)
            refund_states.follow(top_up, facts.refunds)
            if facts.has_all:
                clawback.follow(top_up, facts.refunds, facts.disputes)
            if facts.card:
                customers.remember(facts.card)


def _take_effect(top_up: TopUp, facts: Facts, customer: str) -> None:
    if facts.session is not None:
        _follow_session(top_up, facts.session, facts.intent, customer)
    elif facts.intent is not None and top_up.kind == TopUp.Kind.AUTO:
        _follow_intent(top_up, facts.intent, customer)


def _follow_session(
    top_up: TopUp,
    session: objects.CheckoutSession,
    intent: objects.PaymentIntent | None,
    customer: str,
) -> None:
    if session.is_paid:
        if wrong := _mismatch(top_up, session, customer):
            payment_states.refuse(top_up, wrong)
        else:
            payment_states.credit(top_up, session.id, session.amount_tax, intent)
    elif session.status == "expired":
        payment_states.expire(top_up)
    elif session.status == "complete" and intent and intent.status in _GIVEN_UP:
        payment_states.fail(top_up, _why(intent))


def _follow_intent(top_up: TopUp, intent: objects.PaymentIntent, customer: str) -> None:
    if intent.status == "succeeded":
        if wrong := _intent_mismatch(top_up, intent, customer):
            payment_states.refuse(top_up, wrong)
        else:
            payment_states.credit(top_up, intent.id, 0, intent)
    elif intent.status in _GIVEN_UP:
        payment_states.decline(top_up, _why(intent), intent.id)


def _complete(top_up: TopUp, intent: objects.PaymentIntent | None) -> None:
    """Note what may become known only after the credit: the charge, and Stripe's fee."""
    if intent is None:
        return
    if not top_up.charge:
        top_up.payment_intent, top_up.charge = intent.id, intent.charge_id
        top_up.save(update_fields=["payment_intent", "charge"])
    about = {"top_up": str(top_up.pk), "charge": top_up.charge}
    movement, fee = intent.balance_transaction_id, intent.fee or 0
    stripe_fees.book(top_up.organization, top_up.currency, movement, fee, about)


# A payment that nobody will try again.
_GIVEN_UP = {"requires_payment_method", "requires_action", "canceled"}


def _why(intent: objects.PaymentIntent) -> str:
    return intent.decline_code or intent.error_code or intent.status


def _mismatch(top_up: TopUp, session: objects.CheckoutSession, customer: str) -> str:
    """Return what a paid page has that the top-up does not; empty if all is as it was ordered."""
    checks = {
        "session": top_up.checkout_session in {"", session.id},
        "mode": session.mode == "payment",
        "livemode": session.livemode == client.is_live(),
        "currency": session.currency == top_up.currency,
        "customer": bool(customer) and session.customer == customer,
        "amount": session.amount_subtotal == top_up.charge_minor,
        "total": session.amount_total == session.amount_subtotal + session.amount_tax,
        "reference": session.client_reference_id == str(top_up.pk),
        "metadata": session.metadata.get("top_up") == str(top_up.pk),
    }
    return ",".join(name for name, is_right in checks.items() if not is_right)


def _intent_mismatch(top_up: TopUp, intent: objects.PaymentIntent, customer: str) -> str:
    checks = {
        "payment": top_up.payment_intent in {"", intent.id},
        "livemode": intent.livemode == client.is_live(),
        "currency": intent.currency == top_up.currency,
        "customer": bool(customer) and intent.customer == customer,
        "amount": intent.amount == intent.amount_received == top_up.charge_minor,
        "metadata": intent.metadata.get("top_up") == str(top_up.pk),
    }
    return ",".join(name for name, is_right in checks.items() if not is_right)
