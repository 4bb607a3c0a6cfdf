"""Stripe's draft of a month, compared with the ledger before it becomes final."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max

from billing import crashes, currencies, invoice_lines, meters, months, postpaid, stripe_ops
from billing.models import BillingPeriod, MeterReport, StripeOp, Wallet
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError

# Stripe counts usage some time after it has taken it.
COUNTING_TAKES = timedelta(minutes=5)
# Stripe makes the draft about when the month ends.
_DRAFT_LATEST = timedelta(hours=2)
# Coins by which Stripe's rounding may differ from ours.
TOLERANCE = 1
_ITEM = "invoice_item"
_HOLD = "hold_invoice"
_FINALIZE = "finalize_invoice"


class Wait(Exception):  # noqa: N818  (nothing is wrong)
    """It is too early: the next round looks again."""


class Blocked(Exception):  # noqa: N818  (what an operator reads)
    """A person must decide."""


def find(period: BillingPeriod) -> objects.Invoice | None:
    """Return Stripe's invoice of a month, if there is one."""
    gateway = client.gateway()
    if period.stripe_invoice:
        return gateway.retrieve_invoice(period.stripe_invoice)
    wallet = Wallet.objects.get(organization=period.organization_id)
    if not wallet.stripe_customer:
        return None
    end = months.end(period.month)
    found = gateway.list_invoices(customer=wallet.stripe_customer, since=end - timedelta(days=1))
    # The subscription may have changed; an invoice of something else has none.
    mine = [each for each in found if each.subscription and each.period_end == end]
    if not mine:
        return None
    BillingPeriod.objects.filter(pk=period.pk).update(stripe_invoice=mine[0].id)
    period.stripe_invoice = mine[0].id
    return gateway.retrieve_invoice(mine[0].id)


def hold(period: BillingPeriod) -> None:
    """Keep Stripe from making the draft final before it is checked."""
    draft = find(period)
    if draft is None or draft.status != "draft" or not draft.auto_advance:
        return
    crashes.point("close.holding")
    try:
        stripe_ops.run(
            _HOLD,
            draft.id,
            lambda given, key: client.gateway().hold_invoice(given["invoice"], key=key),
            {"invoice": draft.id},
        )
    except RejectedError:
        # It has become final at this moment: the check sees what it says.
        return


def check(period: BillingPeriod, now: datetime, *, is_accepted: bool = False) -> None:
    """Compare Stripe's draft with the ledger, and bring it to whole coins of the ledger.

    Args:
        is_accepted: An operator has decided to bill what the ledger says.

    Raises:
        Wait: Stripe may not have counted everything yet.
        Blocked: They differ by more than rounding can.
    """
    reports = meters.counted_in(period)
    newest = reports.aggregate(at=Max("accepted_at"))["at"]
    if newest is not None and newest > now - COUNTING_TAKES:
        raise Wait
    found = invoice_lines.amounts(period)
    micros = meters.micros(reports)
    draft = find(period)
    if draft is None:
        if micros == 0 and found.subtotal_minor == 0:
            return
        if now < months.end(period.month) + _DRAFT_LATEST:
            raise Wait
        raise Blocked("Stripe has no invoice of this month.")
    usage = _usage(draft, period.currency)
    expected = currencies.coins_of_micros(micros, period.currency)
    if abs(usage - expected) > TOLERANCE and not is_accepted:
        raise Blocked(_differ("Stripe counts", usage, expected, period.currency))
    if draft.status == "draft":
        _bring_to(period, draft, usage, found.subtotal_minor)


def _usage(draft: objects.Invoice, currency: str) -> int:
    """Return what a draft bills for what the meter counted."""
    price = postpaid.price_of(currency)
    lines = client.gateway().invoice_lines(draft.id)
    return sum(line.amount for line in lines if line.price == price)


def _differ(what: str, theirs: int, ours: int, currency: str) -> str:
    said, known = currencies.text(theirs, currency), currencies.text(ours, currency)
    return f"{what} {said}, the ledger {known} {currency}."


def _bring_to(period: BillingPeriod, draft: objects.Invoice, usage: int, subtotal: int) -> None:
    """Add the coin by which Stripe rounds otherwise, or that was carried, as a line."""
    added = _items_of(draft)
    if missing := subtotal - usage - sum(op.params["amount"] for op in added):
        crashes.point("close.adding")
        _add(period, draft, len(added) + 1, missing)
    crashes.point("close.added")
    now = client.gateway().retrieve_invoice(draft.id)
    if now.status == "draft" and now.subtotal != subtotal:
        raise Blocked(_differ("Stripe's draft comes to", now.subtotal, subtotal, period.currency))


def _items_of(draft: objects.Invoice) -> list[StripeOp]:
    """Return the lines that were added here; one whose outcome is not known is asked for again."""
    ops = StripeOp.objects.filter(kind=_ITEM, business_key__startswith=f"{draft.id}:")
    for op in ops.filter(state__in=[StripeOp.State.SENT, StripeOp.State.UNKNOWN]):
        stripe_ops.run(_ITEM, op.business_key, _item, op.params)
    return list(ops.filter(state=StripeOp.State.OK))


def _add(period: BillingPeriod, draft: objects.Invoice, number: int, coins: int) -> None:
    stripe_ops.run(
        _ITEM,
        f"{draft.id}:{number}",
        _item,
        {
            "invoice": draft.id,
            "customer": draft.customer,
            "amount": coins,
            "currency": period.currency,
            "description": "Rounding, carried between months",
        },
    )


def _item(params: Mapping[str, Any], key: str) -> objects.InvoiceItem:
    return client.gateway().add_invoice_item(**params, key=key)


def finalize(period: BillingPeriod, *, is_accepted: bool = False) -> objects.Invoice | None:
    """Make the draft final; returns Stripe's invoice, None if nothing is owed and there is none.

    Raises:
        Blocked: Stripe refused, or what is final is not what was checked.
    """
    draft = find(period)
    if draft is None:
        return None
    if draft.status == "draft":
        _choose_card(period, draft)
        crashes.point("close.finalising")
        draft = _finalize(draft)
    subtotal = invoice_lines.amounts(period).subtotal_minor
    if abs(draft.subtotal - subtotal) > TOLERANCE and not is_accepted:
        text = _differ("Stripe's final invoice says", draft.subtotal, subtotal, period.currency)
        raise Blocked(text)
    return draft


def _choose_card(period: BillingPeriod, draft: objects.Invoice) -> None:
    """Let the saved card pay, unless its owner has chosen one at Stripe."""
    card = Wallet.objects.get(organization=period.organization_id).payment_method
    gateway = client.gateway()
    if not card or gateway.retrieve_customer(draft.customer).default_payment_method:
        return
    try:
        gateway.set_default_card(draft.customer, card, key=f"card:{draft.id}:{card}")
    except RejectedError:
        # It was removed: the invoice stays open, and its owner can pay it with another.
        return


def _finalize(draft: objects.Invoice) -> objects.Invoice:
    gateway = client.gateway()
    refusal = ""
    try:
        stripe_ops.run(
            _FINALIZE,
            draft.id,
            lambda given, key: gateway.finalize_invoice(given["invoice"], key=key),
            {"invoice": draft.id},
            compensated=_refused(draft),
        )
    except RejectedError as error:
        # Also if it has become final in the meantime.
        refusal = error.message
    found = gateway.retrieve_invoice(draft.id)
    if found.status == "draft":
        raise Blocked(f"Stripe does not make the invoice final: {refusal}")
    return found


def _refused(draft: objects.Invoice) -> int:
    """Return the last attempt that Stripe refused: nothing was booked for it."""
    refused = StripeOp.objects.filter(
        kind=_FINALIZE, business_key=draft.id, state=StripeOp.State.REJECTED
    )
    return refused.aggregate(last=Max("attempt"))["last"] or 0


def counted_at_stripe(period: BillingPeriod) -> int | None:
    """Return the micro-units that Stripe's meter has for a month; None if there is no meter."""
    gateway = client.gateway()
    name = postpaid.lookup_key(period.currency)
    meter = next((each for each in gateway.list_meters() if each.event_name == name), None)
    wallet = Wallet.objects.get(organization=period.organization_id)
    if meter is None or not wallet.stripe_customer:
        return None
    found = gateway.usage_summaries(
        meter=meter.id,
        customer=wallet.stripe_customer,
        start=months.start(period.month),
        end=months.end(period.month),
    )
    return sum(each.value for each in found)


def rejected(period: BillingPeriod) -> int:
    """Return how many of a month's reports Stripe has refused."""
    return meters.counted_in(period).filter(state=MeterReport.State.REJECTED).count()
