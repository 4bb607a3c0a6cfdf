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
    return list(_unequal(clawed_back(), refunded()))


def _unequal(taken: Mapping[str, int], given: Mapping[str, int]) -> Iterator[Trouble]:
    for row in TopUp.objects.filter(state=TopUp.State.CREDITED):
        for name, said, shown in (
            ("clawed back", row.clawed_back_nanos, taken.get(str(row.pk), 0)),
            ("refunded", row.refunded_nanos, given.get(str(row.pk), 0)),
        ):
            if said != shown:
                text = f"top-up {row.pk}: {said} {name}, the books say {shown}"
                yield Trouble(f"top_up:{row.pk}", text, row.organization_id, shown, said)


def clawed_back() -> dict[str, int]:
    """Return top-up → what the ledger says was clawed back of it, in nanos."""
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


def refunded() -> dict[str, int]:
    """Return top-up → what the site has refunded of it, in nanos."""
    sums = (
        CreditRefund.objects.filter(~Q(state=CreditRefund.State.FAILED))
        .order_by()
        .values_list("top_up")
        .annotate(total=Sum("amount_nanos"))
        .values_list("top_up", "total")
    )
    return {str(pk): total for pk, total in sums}
