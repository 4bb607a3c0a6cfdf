"""What Stripe says, read before the database is: no call is made inside a transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from billing import invoice_payments, meter_sender
from billing.models import CreditRefund, Dispute, Invoice, MeterReport, Payout, TopUp, Wallet
from billing.stripe import client, objects

if TYPE_CHECKING:
    # The SDK is seldom needed, and costs half a second.
    from billing.stripe.gateway import StripeGateway

# What is younger may still be on its way: a webhook, an answer, a sum of Stripe's.
GRACE = timedelta(hours=1)
METER_LAG = timedelta(hours=2)
EVENT_DAYS = timedelta(days=3)
STUCK = timedelta(minutes=15)
# Between Stripe and a bank: not what tenants paid or publishers got.
OWN_MONEY = ("payout", "payout_cancel", "payout_failure", "topup", "topup_reversal")


@dataclass(frozen=True, slots=True)
class Facts:
    """What Stripe says about a period.

    Attributes:
        since: From when on movements were read.
        at: When Stripe was asked.
        movements: Group → what moved on our balance for it, in coins after fees; a group is a
            top-up, an invoice or a payout. What belongs to none is under its own id.
        newest: Group → when its newest movement was made.
        events: Id → type, of events that we handle.
        sessions: Top-ups that wait for long → their payment page.
        transfers: Payouts that were sent → their transfers.
        counted: (organization, hour) → micro-units that the meter counted.
    """

    since: datetime
    at: datetime
    movements: dict[str, int] = field(default_factory=dict)
    newest: dict[str, datetime] = field(default_factory=dict)
    currency: dict[str, str] = field(default_factory=dict)
    events: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, objects.CheckoutSession] = field(default_factory=dict)
    transfers: dict[str, list[objects.Transfer]] = field(default_factory=dict)
    counted: dict[tuple[int, datetime], int] = field(default_factory=dict)


def gather(days: int | None = None) -> Facts:
    """Ask Stripe.

    Args:
        days: How far back; RECONCILE_DAYS if not given.

    Raises:
        StripeCallError: Stripe did not answer.
    """
    now = timezone.now()
    facts = Facts(since=now - timedelta(days=days or settings.RECONCILE_DAYS), at=now)
    gateway = client.gateway()
    _read_movements(gateway, facts)
    for event in gateway.list_events(since=max(facts.since, now - EVENT_DAYS)):
        if event.created_at < now - GRACE:
            facts.events[event.id] = event.type
    waiting = TopUp.objects.filter(state=TopUp.State.PENDING, created_at__lt=now - STUCK)
    for top_up in waiting.exclude(checkout_session=""):
        facts.sessions[str(top_up.pk)] = gateway.retrieve_session(top_up.checkout_session)
    sent = Payout.objects.filter(created_at__gte=facts.since).exclude(stripe_transfer="")
    for payout in sent:
        group = f"payout:{payout.pk}"
        facts.transfers[str(payout.pk)] = gateway.list_transfers(transfer_group=group)
    _read_meters(gateway, facts)
    return facts


def _read_movements(gateway: StripeGateway, facts: Facts) -> None:
    known = _groups(gateway, facts.since)
    sums: dict[str, int] = defaultdict(int)
    for each in gateway.balance_transactions(since=facts.since):
        if each.type in OWN_MONEY:
            continue
        group = known.get(each.source) or _asked(gateway, each, known) or f"movement:{each.id}"
        sums[group] += each.net
        facts.currency[group] = each.currency
        facts.newest[group] = max(facts.newest.get(group, each.created_at), each.created_at)
    facts.movements.update(sums)


def _groups(gateway: StripeGateway, since: datetime) -> dict[str, str]:
    """Return Stripe's ids that our rows know → the group they belong to."""
    known = {
        row.charge: f"top_up:{row.pk}"
        for row in TopUp.objects.exclude(charge="").only("pk", "charge")
    }
    known |= {
        each.stripe_refund: f"top_up:{each.top_up_id}"
        for each in CreditRefund.objects.exclude(stripe_refund="")
    }
    for row in Dispute.objects.select_related("top_up", "invoice"):
        payment = row.payment
        is_top_up = isinstance(payment, TopUp)
        known[row.pk] = f"top_up:{payment.pk}" if is_top_up else f"invoice:{payment}"
    for payout in Payout.objects.exclude(stripe_transfer=""):
        known[payout.stripe_transfer] = f"payout:{payout.pk}"
        if payout.reversed_minor:
            known |= {
                each.id: f"payout:{payout.pk}"
                for each in gateway.list_reversals(payout.stripe_transfer)
            }
    paid = Invoice.objects.filter(issued_at__gte=since - timedelta(days=62))
    for invoice in paid.exclude(stripe_invoice=""):
        known |= dict.fromkeys(_charges(invoice), f"invoice:{invoice.number}")
    return known


def _charges(invoice: Invoice) -> Iterable[str]:
    facts = invoice_payments.look(invoice.stripe_invoice)
    return [payment.charge_id for payment in facts.payments if payment.charge_id]


def _asked(
    gateway: StripeGateway, each: objects.BalanceTransaction, known: dict[str, str]
) -> str | None:
    """Ask Stripe what a movement is of that no row of ours knows."""
    charge = ""
    if each.type in {"charge", "payment"} and each.source:
        intent = gateway.retrieve_charge(each.source).payment_intent
        top_up = TopUp.objects.filter(payment_intent=intent).first() if intent else None
        return f"top_up:{top_up.pk}" if top_up else None
    if each.type.startswith("refund") and each.source:
        charge = gateway.retrieve_refund(each.source).charge
    elif each.type == "adjustment" and each.source.startswith(("dp_", "du_")):
        charge = gateway.retrieve_dispute(each.source).charge
    return known.get(charge) if charge else None


def _read_meters(gateway: StripeGateway, facts: Facts) -> None:
    reported = MeterReport.objects.filter(
        counted_at__gte=facts.since, counted_at__lt=facts.at - METER_LAG
    )
    owners = reported.order_by().values_list("bucket__organization", "bucket__currency").distinct()
    meters = {each.event_name: each.id for each in gateway.list_meters()} if owners else {}
    start = facts.since.replace(minute=0, second=0, microsecond=0)
    end = facts.at.replace(minute=0, second=0, microsecond=0)
    for owner, currency in list(owners):
        meter = meters.get(meter_sender.event_name(currency))
        customer = Wallet.objects.get(organization=owner).stripe_customer
        if meter and customer:
            for each in gateway.usage_summaries(
                meter=meter, customer=customer, start=start, end=end, hourly=True
            ):
                facts.counted[owner, each.start_at] = each.value
