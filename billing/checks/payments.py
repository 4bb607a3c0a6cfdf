"""Top-ups: what their rows say, and what the ledger says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.db.models import Count, Q, Sum

from billing import clawback
from billing.checks.trouble import Trouble
from billing.models import CreditRefund, LedgerEntry, LedgerTransaction, TopUp


def top_ups_are_credited_once() -> list[Trouble]:
    """Every credited top-up is booked once, under what was paid."""
    booked = dict(
        LedgerTransaction.objects.filter(kind="top_up")
        .order_by()
        .values_list("external_ref")
        .annotate(number=Count("pk"))
    )
    found = []
    for row in TopUp.objects.filter(state=TopUp.State.CREDITED):
        is_page = row.kind == TopUp.Kind.CHECKOUT
        number = booked.get(row.checkout_session if is_page else row.payment_intent, 0)
        if number != 1:
            text = f"top-up {row.pk} is credited, and booked {number} times"
            found.append(Trouble(f"top_up:{row.pk}", text, row.organization_id, 1, number))
    return found


def top_ups_are_given_back_as_booked() -> list[Trouble]:
    """What a top-up says was clawed back and refunded is what the ledger and its refunds say."""
    return list(_unequal(_clawed_back(), _refunded()))


def _unequal(clawed_back: Mapping[str, int], refunded: Mapping[str, int]) -> Iterator[Trouble]:
    for row in TopUp.objects.filter(state=TopUp.State.CREDITED):
        for name, said, shown in (
            ("clawed back", row.clawed_back_nanos, clawed_back.get(str(row.pk), 0)),
            ("refunded", row.refunded_nanos, refunded.get(str(row.pk), 0)),
        ):
            if said != shown:
                text = f"top-up {row.pk}: {said} {name}, the books say {shown}"
                yield Trouble(f"top_up:{row.pk}", text, row.organization_id, shown, said)


def _clawed_back() -> dict[str, int]:
    sums: dict[str, int] = {}
    entries = LedgerEntry.objects.filter(
        transaction__kind=clawback.KIND,
        account__code__startswith="tenant:",
        account__code__endswith=":credit",
    )
    for ref, nanos in entries.values_list("transaction__external_ref", "amount_nanos"):
        name = ref.rpartition(":")[0]
        sums[name] = sums.get(name, 0) + nanos
    return sums


def _refunded() -> dict[str, int]:
    sums = (
        CreditRefund.objects.filter(~Q(state=CreditRefund.State.FAILED))
        .order_by()
        .values_list("top_up")
        .annotate(total=Sum("amount_nanos"))
        .values_list("top_up", "total")
    )
    return {str(pk): total for pk, total in sums}
