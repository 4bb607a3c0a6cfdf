"""Wallets and publishers: what their rows say, and what the ledger says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Sum

from billing import ledger
from billing.checks.trouble import Trouble
from billing.models import Budget, CreditGrant, Earning, LedgerEntry, Wallet


def wallets_are_the_ledger() -> list[Trouble]:
    """What a wallet says it has is what the ledger says."""
    balances, grants = _balances(), _grants()
    found = []
    for wallet in Wallet.objects.order_by("pk"):
        owner = wallet.organization_id
        for template, sign, said in (
            (ledger.CREDIT, -1, wallet.paid_nanos),
            (ledger.PROMOTIONAL, -1, grants.get(owner, 0)),
            (ledger.RECEIVABLE, 1, wallet.owed_nanos),
        ):
            code = template[0].format(owner)
            booked = sign * balances.get(code, 0)
            if booked != said:
                text = f"wallet {wallet.pk} says {said}, {code} says {booked}"
                found.append(Trouble(code, text, owner, booked, said))
    return found


def wallets_are_their_budgets() -> list[Trouble]:
    """What a wallet says it has is what its budget lets it spend."""
    known, grants = {row.organization_id: row for row in Wallet.objects.all()}, _grants()
    found = []
    for budget in Budget.objects.filter(lock_rank=Budget.Rank.WALLET).order_by("pk"):
        owner, wallet = budget.organization_id, known.get(budget.organization_id)
        has = grants.get(owner, 0)
        if wallet is not None:
            has += wallet.paid_nanos + wallet.line_nanos - wallet.owed_nanos
        left = budget.capacity - budget.posted
        if has != left:
            text = f"budget {budget.pk} lets {left} be spent, its wallet has {has}"
            found.append(Trouble(f"budget:{budget.pk}", text, owner, has, left))
    return found


def publishers_are_the_ledger() -> list[Trouble]:
    """What publishers have earned and not been paid is what the ledger owes them."""
    accrued = dict(
        Earning.objects.filter(released_at=None)
        .order_by()
        .values_list("publisher")
        .annotate(total=Sum("amount_nanos") - Sum("clawed_back_nanos"))
        .values_list("publisher", "total")
    )
    return list(_unequal(accrued, _balances()))


def _unequal(accrued: Mapping[int, int], balances: Mapping[str, int]) -> Iterable[Trouble]:
    for owner, nanos in sorted(accrued.items()):
        code = ledger.ACCRUED[0].format(owner)
        booked = -balances.get(code, 0)
        if nanos != booked:
            text = f"publisher {owner}: earnings say {nanos}, the ledger says {booked}"
            yield Trouble(code, text, owner, nanos, booked)


def _balances() -> dict[str, int]:
    return dict(
        LedgerEntry.objects.order_by()
        .values_list("account__code")
        .annotate(total=Sum("amount_nanos"))
        .values_list("account__code", "total")
    )


def _grants() -> dict[int, int]:
    return dict(
        CreditGrant.objects.order_by()
        .values_list("organization")
        .annotate(total=Sum("remaining_nanos"))
        .values_list("organization", "total")
    )
