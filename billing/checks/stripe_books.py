"""Stripe's books and ours, in both directions: money, events, payments, transfers, meters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.db.models import Sum
from django.db.models.functions import TruncHour

from accounts.models import Organization
from billing import ledger, minor
from billing.checks.stripe_facts import GRACE, METER_LAG, STUCK, Facts
from billing.checks.trouble import Trouble
from billing.models import (
    CreditRefund,
    Finding,
    Invoice,
    LedgerEntry,
    LedgerTransaction,
    MeterReport,
    Payout,
    StripeEvent,
    StripeOp,
    TopUp,
)
from billing.webhooks import HANDLERS

StripeCheck = Callable[[Facts], list[Trouble]]
_PAYOUT_KINDS = ("payout", "payout_failed", "payout_reversed")


@dataclass(slots=True)
class _Booked:
    nanos: int
    first: datetime
    last: datetime
    organization_id: int | None


def clearing_is_stripes_balance(facts: Facts) -> list[Trouble]:
    """What the ledger says is at Stripe is what moved there, payment by payment, both ways."""
    booked, busy = _booked(facts), _busy()
    found = []
    for group in sorted(facts.movements.keys() | booked.keys()):
        ours = booked.get(group)
        newest = max([ours.last] if ours else [], default=facts.newest.get(group, facts.since))
        newest = max(newest, facts.newest.get(group, newest))
        if group in busy or newest > facts.at - GRACE or _is_older(group, ours, facts):
            continue
        currency = facts.currency.get(group, "usd")
        moved = minor.to_nanos(facts.movements.get(group, 0), currency)
        if moved != (nanos := ours.nanos if ours else 0):
            text = f"{group}: Stripe moved {moved}, the ledger has {nanos}"
            owner = ours.organization_id if ours else _owner(group)
            found.append(Trouble(group, text, owner, moved, nanos, source=group))
    return found


def _is_older(group: str, ours: _Booked | None, facts: Facts) -> bool:
    """Whether a group began before the period: then a part of it was not read."""
    if ours is not None and ours.first < facts.since + GRACE:
        return True
    kind, _, key = group.partition(":")
    if kind == "top_up" and ours is None:
        return TopUp.objects.filter(pk=key, created_at__lt=facts.since).exists()
    return False


def _owner(group: str) -> int | None:
    kind, _, key = group.partition(":")
    if kind == "top_up":
        return TopUp.objects.filter(pk=key).values_list("organization", flat=True).first()
    return None


def _booked(facts: Facts) -> dict[str, _Booked]:
    """Return group → what the ledger has on the clearing account for it."""
    sums = (
        LedgerEntry.objects.filter(account__code=ledger.CLEARING[0])
        .order_by()
        .values_list("transaction")
        .annotate(total=Sum("amount_nanos"))
        .values_list("transaction", "total")
    )
    amounts, groups = dict(sums), _Groups()
    found: dict[str, _Booked] = {}
    transactions = LedgerTransaction.objects.filter(pk__in=list(amounts))
    for booked in transactions.select_related("reversal_of").order_by("pk"):
        at = booked.posted_at
        row = found.setdefault(groups.of(booked), _Booked(0, at, at, booked.organization_id))
        row.nanos += amounts[booked.pk]
        row.last = at
    return {
        group: row
        for group, row in found.items()
        if group in facts.movements or row.last >= facts.since
    }


class _Groups:
    """Says what a transaction is about, in the words of `Facts.movements`."""

    def __init__(self) -> None:
        self.paid: dict[str, UUID] = {}
        for row in TopUp.objects.only("pk", "checkout_session", "payment_intent"):
            self.paid |= dict.fromkeys((row.checkout_session, row.payment_intent), row.pk)
        self.refunds = {
            str(pk): top_up for pk, top_up in CreditRefund.objects.values_list("pk", "top_up_id")
        }
        known = Invoice.objects.exclude(stripe_invoice="")
        self.invoices = dict(known.values_list("stripe_invoice", "number"))
        corrected = Finding.objects.filter(correction__isnull=False)
        self.corrected = dict(corrected.values_list("correction_id", "subject"))

    def of(self, booked: LedgerTransaction) -> str:
        """Return the group; what nobody knows is a group of its own."""
        if booked.pk in self.corrected:
            return self.corrected[booked.pk]
        for name in ("top_up", "invoice"):
            if name in booked.details:
                return f"{name}:{booked.details[name]}"
        original = booked.reversal_of or booked
        ref = original.external_ref.partition(":")[0]
        if booked.kind in _PAYOUT_KINDS:
            return f"payout:{ref}"
        if booked.kind.startswith("credit_note"):
            return f"invoice:{booked.reason}"
        return self._of_payment(booked, ref)

    def _of_payment(self, booked: LedgerTransaction, ref: str) -> str:
        if booked.kind == "clawback":
            return f"top_up:{ref}"
        top_up = self.paid.get(ref) or self.refunds.get(ref)
        if top_up is not None:
            return f"top_up:{top_up}"
        invoice = self.invoices.get(ref)
        return f"invoice:{invoice}" if invoice else f"transaction:{booked.pk}"


def _busy() -> set[str]:
    """Return groups that are under way: one side knows more than the other, for now."""
    payouts = Payout.objects.filter(state__in=[Payout.State.PENDING, Payout.State.SENT])
    refunds = CreditRefund.objects.filter(state=CreditRefund.State.PENDING)
    return {f"payout:{row.pk}" for row in payouts} | {f"top_up:{row.top_up_id}" for row in refunds}


def payments_are_credited(facts: Facts) -> list[Trouble]:
    """A top-up whose page was paid is credited, and one that expired has ended."""
    found = []
    for key, session in facts.sessions.items():
        top_up = TopUp.objects.get(pk=key)
        if top_up.state != TopUp.State.PENDING:
            continue
        if session.is_paid or session.status == "expired":
            is_paid = "is paid" if session.is_paid else "has expired"
            text = f"top-up {key} waits, its page {session.id} {is_paid}"
            owner, nanos = top_up.organization_id, top_up.credit_nanos
            expected = nanos if session.is_paid else 0
            found.append(Trouble(f"top_up:{key}", text, owner, expected, 0))
    return found


def refused_payments_are_looked_at(facts: Facts) -> list[Trouble]:
    """A payment that is not what was ordered is credited to nobody: a person must look."""
    refused = TopUp.objects.filter(failure__startswith="mismatch", finished_at__gte=facts.since)
    return [
        Trouble(
            f"top_up:{row.pk}", f"top-up {row.pk} was refused: {row.failure}", row.organization_id
        )
        for row in refused
    ]


def events_have_arrived(facts: Facts) -> list[Trouble]:
    """What happened at Stripe has come here, and has had its effect."""
    wanted = {key: kind for key, kind in facts.events.items() if kind in HANDLERS}
    here = dict(StripeEvent.objects.filter(pk__in=wanted).values_list("pk", "state"))
    missing = [
        Trouble(f"event:{key}", f"{kind} {key} never arrived")
        for key, kind in sorted(wanted.items())
        if key not in here
    ]
    late = StripeEvent.objects.exclude(state=StripeEvent.State.DONE).filter(
        received_at__lt=facts.at - GRACE
    )
    return missing + [
        Trouble(f"event:{row.pk}", f"{row.type} {row.pk} is {row.state}: {row.last_error}"[:500])
        for row in late
    ]


def operations_have_ended(facts: Facts) -> list[Trouble]:
    """Nothing that was asked of Stripe is without an answer for long."""
    ended = [StripeOp.State.OK, StripeOp.State.REJECTED]
    waiting = StripeOp.objects.exclude(state__in=ended).filter(created_at__lt=facts.at - GRACE)
    return [
        Trouble(f"op:{row.idem_key}", f"{row.kind} {row.business_key} is {row.state}")
        for row in waiting
    ]


def payouts_are_transfers(facts: Facts) -> list[Trouble]:
    """Each payout is one transfer of its amount."""
    found = []
    for key, transfers in facts.transfers.items():
        payout = Payout.objects.get(pk=key)
        sent = sum(each.amount for each in transfers)
        if len(transfers) != 1 or sent != payout.amount_minor:
            nanos = minor.to_nanos(sent, payout.currency)
            text = f"payout {key} of {payout.amount_nanos} is {len(transfers)} transfers, {nanos}"
            owner = payout.organization_id
            found.append(Trouble(f"payout:{key}", text, owner, payout.amount_nanos, nanos))
    return found


def meters_are_counted(facts: Facts) -> list[Trouble]:
    """What was accepted of our reports is what Stripe's meters count, hour by hour."""
    accepted: dict[tuple[int, datetime], int] = defaultdict(int)
    until = facts.at - METER_LAG
    start = facts.since.replace(minute=0, second=0, microsecond=0)
    reports = MeterReport.objects.filter(
        state=MeterReport.State.OK, counted_at__gte=start, counted_at__lt=until
    )
    for owner, hour, value in (
        reports.order_by()
        .annotate(hour=TruncHour("counted_at", tzinfo=UTC))
        .values_list("bucket__organization", "hour")
        .annotate(total=Sum("value"))
        .values_list("bucket__organization", "hour", "total")
    ):
        accepted[owner, hour] += value
    found = []
    for owner, hour in sorted(accepted.keys() | facts.counted.keys()):
        ours, theirs = accepted.get((owner, hour), 0), facts.counted.get((owner, hour), 0)
        if ours != theirs and hour < until.replace(minute=0, second=0, microsecond=0):
            name = Organization.objects.get(pk=owner).slug
            text = f"{name}, {hour:%Y-%m-%d %H}:00: reported {ours}, Stripe counts {theirs}"
            subject = f"meter:{owner}:{hour:%Y%m%d%H}"
            found.append(Trouble(subject, text, owner, ours * 1000, theirs * 1000))
    return found


def reports_have_been_sent(facts: Facts) -> list[Trouble]:
    """No usage waits for Stripe's meter longer than a day, and none was rejected."""
    states = MeterReport.State
    stuck = MeterReport.objects.exclude(state=states.OK).filter(
        created_at__lt=facts.at - 24 * GRACE
    ) | MeterReport.objects.filter(state=states.REJECTED)
    return [
        Trouble(
            f"report:{row.pk}",
            f"report {row.identifier} is {row.state}: {row.last_error}"[:500],
            row.bucket.organization_id,
            row.value * 1000,
            0,
        )
        for row in stuck.select_related("bucket").order_by("pk")
    ]


STRIPE_CHECKS: tuple[StripeCheck, ...] = (
    clearing_is_stripes_balance,
    payments_are_credited,
    refused_payments_are_looked_at,
    events_have_arrived,
    operations_have_ended,
    payouts_are_transfers,
    meters_are_counted,
    reports_have_been_sent,
)

# The oldest a pending top-up may be before its page is asked about.
__all__ = ["STRIPE_CHECKS", "STUCK", "StripeCheck"]
