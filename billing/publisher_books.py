"""Proves publishers' books: what they earned, gave back and were paid is what the ledger owes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from django.db.models import F, Sum

from billing import ledger, minor
from billing.checks.trouble import Trouble
from billing.models import ChargeRefund, Earning, Hold, LedgerEntry, Payout, UsageEvent

# Entries by hand, which no row of a publisher explains.
BY_HAND = ("correction",)


def accrued_is_the_ledger() -> list[str]:
    """What is earned and not released is what the ledger holds as accrued."""
    rows = Earning.objects.filter(released_at=None).order_by()
    said = rows.values_list("publisher").annotate(
        sum=Sum("amount_nanos") - Sum("clawed_back_nanos")
    )
    return _differ("accrued", Counter(dict(said)), _booked(ledger.ACCRUED))


def payable_is_the_ledger() -> list[str]:
    """What was released, less what was clawed back and paid out, is what the ledger owes."""
    said: Counter[int] = Counter()
    released = Earning.objects.filter(released_at__isnull=False).order_by()
    for owner, nanos in released.values_list("publisher").annotate(
        sum=Sum("amount_nanos") - Sum("clawed_back_nanos")
    ):
        said[owner] += nanos
    clawed = ChargeRefund.objects.filter(is_from_payable=True).order_by()
    for owner, nanos in clawed.values_list("publisher").annotate(sum=Sum("publisher_nanos")):
        said[owner] -= nanos
    for payout in Payout.objects.exclude(state=Payout.State.FAILED):
        back = minor.to_nanos(payout.reversed_minor, payout.currency)
        said[payout.organization_id] -= payout.amount_nanos - back
    return _differ("payable", said, _booked(ledger.PAYABLE))


def _booked(template: tuple[str, ledger.Kind]) -> Counter[int]:
    """Return what the ledger owes each publisher on one account, without entries by hand."""
    suffix = template[0].partition("{}")[2]
    entries = LedgerEntry.objects.filter(
        account__code__startswith="publisher:", account__code__endswith=suffix
    ).exclude(transaction__kind__in=BY_HAND)
    sums = entries.order_by().values_list("account__organization").annotate(sum=Sum("amount_nanos"))
    return Counter({owner: -nanos for owner, nanos in sums})


def _differ(name: str, said: Mapping[int, int], booked: Mapping[int, int]) -> list[str]:
    return [
        f"publisher {owner}: {name} is {said.get(owner, 0)}, the ledger says {booked.get(owner, 0)}"
        for owner in sorted(said.keys() | booked.keys())
        if said.get(owner, 0) != booked.get(owner, 0)
    ]


def earnings_are_shares() -> list[Trouble]:
    """What a settlement earned a publisher is the sum of the shares of its charges."""
    shares = UsageEvent.objects.filter(
        hold__settlement__isnull=False, model_version__isnull=False, publisher_nanos__gt=0
    ).order_by()
    said = {
        (owner, settlement): nanos
        for owner, settlement, nanos in shares.values_list(
            "model_version__model__owner", "hold__settlement"
        ).annotate(sum=Sum("publisher_nanos"))
    }
    earned = {
        (owner, settlement): nanos
        for owner, settlement, nanos in Earning.objects.values_list(
            "publisher", "settlement", "amount_nanos"
        )
    }
    return [
        Trouble(
            f"earning:{key[0]}:{key[1]}",
            f"publisher {key[0]}, settlement {key[1]}: "
            f"earned {earned.get(key)}, shares {said.get(key)}",
            key[0],
            said.get(key),
            earned.get(key),
        )
        for key in sorted(said.keys() | earned.keys())
        if said.get(key) != earned.get(key)
    ]


def refunds_are_within_charges() -> list[str]:
    """No charge is given back more than once."""
    over = (
        Hold.objects.filter(refunds__isnull=False)
        .annotate(given=Sum("refunds__amount_nanos"), part=Sum("refunds__publisher_nanos"))
        .exclude(given__lte=F("captured_nanos"), part__lte=F("usage__publisher_nanos"))
    )
    return [f"hold {hold.pk}: more was given back than was charged" for hold in over]


def payouts_are_booked() -> list[Trouble]:
    """A payout is booked with its amount, and a refused one was taken back."""
    found = []
    for payout in Payout.objects.select_related("ledger_transaction"):
        booked = payout.ledger_transaction
        entries = sorted(booked.entries.values_list("amount_nanos", flat=True))
        if entries != [-payout.amount_nanos, payout.amount_nanos]:
            found.append(_payout(payout, "is booked with another amount"))
        is_back = booked.reversals.exists()
        if is_back != (payout.state == Payout.State.FAILED):
            found.append(_payout(payout, f"is {payout.state}, its booking says otherwise"))
    return found


def _payout(payout: Payout, what: str) -> Trouble:
    text = f"payout {payout.pk} {what}"
    return Trouble(f"payout:{payout.pk}", text, payout.organization_id)
