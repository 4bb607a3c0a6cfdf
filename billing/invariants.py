"""Proves the books: each check returns what is wrong, in words; nothing is repaired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from accounts.models import AuditEntry, Organization
from billing import chains, finished, ledger, triggers
from billing.models import (
    Budget,
    BudgetSet,
    CreditGrant,
    Earning,
    Hold,
    LedgerBook,
    LedgerEntry,
    LedgerTransaction,
    Settlement,
    Unit,
    UsageEvent,
    UsageRollup,
    Wallet,
)

Check = Callable[[], list[str]]


def transactions_balance() -> list[str]:
    """Every ledger transaction has two entries or more and sums to zero."""
    wrong = LedgerTransaction.objects.annotate(
        total=Sum("entries__amount_nanos"), lines=Count("entries")
    ).filter(~Q(total=0) | Q(lines__lt=2))
    return [f"transaction {row.pk} has {row.lines} entries, sum {row.total}" for row in wrong]


def held_is_open_holds() -> list[str]:
    """A budget's `held` is the sum, or the number, of its unsettled holds."""
    return _budgets_differ("held", Q(settlement=None), "reserved_nanos")


def posted_is_captured_holds() -> list[str]:
    """A budget's `posted` is the sum, or the number, of its settled, captured holds."""
    captured = Q(settlement__isnull=False, captured_nanos__isnull=False)
    return _budgets_differ("posted", captured, "captured_nanos")


def _budgets_differ(column: str, which: Q, amount: str) -> list[str]:
    counted = (
        Hold.objects.filter(which)
        .order_by()
        .values("budget_set")
        .annotate(nanos=Sum(amount), calls=Count("pk"))
    )
    by_set = {row["budget_set"]: (row["nanos"], row["calls"]) for row in counted}
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    members = BudgetSet.budgets.through.objects.filter(budgetset_id__in=by_set)
    for set_id, budget_id in members.values_list("budgetset_id", "budget_id"):
        for place, value in enumerate(by_set[set_id]):
            sums[budget_id][place] += value
    found = []
    for row in Budget.objects.values("pk", "unit", column):
        said = sums[row["pk"]][row["unit"] == Unit.CALLS]
        if row[column] != said:
            found.append(f"budget {row['pk']}: {column} is {row[column]}, its holds say {said}")
    return found


def caps_are_kept() -> list[str]:
    """No spending limit is passed; a wallet only after credit was taken back."""
    passed = Budget.objects.filter(capacity__lt=F("posted") + F("held"))
    return [
        f"budget {row.pk}: {row.posted} + {row.held} > {row.capacity}"
        for row in passed.select_related("organization")
        if not _was_lowered(row)
    ]


# What takes from a wallet that may have spent it already: its balance may fall below zero.
_TAKES = ("credit_taken", "clawback", "correction")


def _was_lowered(budget: Budget) -> bool:
    """Whether somebody lowered the capacity after the money was spent, which is allowed."""
    actions = ["limit.set", "credit_line.set"]
    if AuditEntry.objects.filter(organization=budget.organization, action__in=actions).exists():
        return True
    return (
        budget.lock_rank == Budget.Rank.WALLET
        and LedgerTransaction.objects.filter(
            organization=budget.organization, kind__in=_TAKES
        ).exists()
    )


def usage_is_captured_holds() -> list[str]:
    """Usage events and captured holds are one to one, with the same amount."""
    without = Hold.objects.filter(state=Hold.State.CAPTURED, usage=None)
    other = UsageEvent.objects.exclude(
        hold__state=Hold.State.CAPTURED, cost_nanos=F("hold__captured_nanos")
    )
    return [f"captured hold {row.pk} has no usage" for row in without] + [
        f"usage {row.pk} differs from its hold" for row in other
    ]


def wallets_are_the_ledger() -> list[str]:
    """What a wallet says it has is what the ledger says, and what its budget lets it spend."""
    balances = dict(
        LedgerEntry.objects.order_by()
        .values_list("account__code")
        .annotate(total=Sum("amount_nanos"))
        .values_list("account__code", "total")
    )
    grants = dict(
        CreditGrant.objects.order_by()
        .values_list("organization")
        .annotate(total=Sum("remaining_nanos"))
        .values_list("organization", "total")
    )
    found = []
    for wallet in Wallet.objects.all():
        owner = wallet.organization_id
        for template, sign, said in (
            (ledger.CREDIT, -1, wallet.paid_nanos),
            (ledger.PROMOTIONAL, -1, grants.get(owner, 0)),
            (ledger.RECEIVABLE, 1, wallet.owed_nanos),
        ):
            booked = sign * balances.get(template[0].format(owner), 0)
            if booked != said:
                found.append(f"wallet {wallet.pk}: {said}, {template[0].format(owner)} {booked}")
    return found + _wallets_differ_from_budgets(grants)


def _wallets_differ_from_budgets(grants: Mapping[int, int]) -> list[str]:
    known = {wallet.organization_id: wallet for wallet in Wallet.objects.all()}
    found = []
    for budget in Budget.objects.filter(lock_rank=Budget.Rank.WALLET):
        owner, wallet = budget.organization_id, known.get(budget.organization_id)
        has = grants.get(owner, 0)
        if wallet is not None:
            has += wallet.paid_nanos + wallet.line_nanos - wallet.owed_nanos
        if has != budget.capacity - budget.posted:
            found.append(f"wallet budget {budget.pk}: {budget.capacity - budget.posted}, not {has}")
    return found


def rollups_are_usage() -> list[str]:
    """The hourly sums are the settled usage."""
    settled = UsageEvent.objects.filter(hold__settlement__isnull=False).aggregate(
        cost=Coalesce(Sum("cost_nanos"), 0), calls=Count("pk")
    )
    rolled = UsageRollup.objects.aggregate(
        cost=Coalesce(Sum("cost_nanos"), 0), calls=Coalesce(Sum("calls"), 0)
    )
    return [] if settled == rolled else [f"rollups say {rolled}, usage says {settled}"]


def books_are_chained() -> list[str]:
    """Every transaction is sealed, and each book is one chain without a gap."""
    found, heads = [], dict[int, tuple[int, str]]()
    transactions = LedgerTransaction.objects.order_by("organization_id", "number")
    for booked in transactions.prefetch_related("entries__account").iterator(chunk_size=1000):
        book = booked.organization_id or 0
        length, head = heads.get(book, (0, ""))
        entries = [(line.account.code, line.amount_nanos) for line in booked.entries.all()]
        follows = (booked.number, booked.previous_hash) == (length + 1, head)
        if not booked.is_sealed or not follows or booked.hash != ledger.digest(booked, entries):
            found.append(f"transaction {booked.pk} does not continue book {book}")
        heads[book] = (booked.number or length, booked.hash)
    for row in LedgerBook.objects.all():
        if (row.length, row.head) != heads.get(row.organization_id, (0, "")):
            found.append(f"book {row.organization_id} does not end where it says")
    return found


def charges_are_chained() -> list[str]:
    """Each settlement's digest follows from its charges and from the settlement before it."""
    found, heads = [], dict[int, str]()
    for settlement in Settlement.objects.select_related("ledger_transaction").order_by("pk"):
        charges = finished.of_settlement(settlement.pk)
        owner, booked = settlement.organization_id, settlement.ledger_transaction
        if settlement.digest != chains.of_settlement(heads.get(owner, ""), charges):
            found.append(f"settlement {settlement.pk} does not say what was charged")
        if booked is not None and booked.details.get("digest") != settlement.digest:
            found.append(f"settlement {settlement.pk} is not what transaction {booked.pk} booked")
        heads[owner] = settlement.digest
    return found


def publishers_are_the_ledger() -> list[str]:
    """What publishers have earned and not been paid is what the ledger owes them."""
    accrued = dict(
        Earning.objects.filter(released_at=None)
        .order_by()
        .values_list("publisher")
        .annotate(total=Sum("amount_nanos") - Sum("clawed_back_nanos"))
        .values_list("publisher", "total")
    )
    return [
        f"publisher {owner}: earnings say {nanos}, the ledger says {booked}"
        for owner, nanos in accrued.items()
        if nanos != (booked := -ledger.balance_of(ledger.ACCRUED, Organization(pk=owner)))
    ]


def guards_are_in_place() -> list[str]:
    """The database refuses by itself what must not happen."""
    return [f"trigger {name} is missing" for name in triggers.missing()]


CHECKS: tuple[Check, ...] = (
    transactions_balance,
    held_is_open_holds,
    posted_is_captured_holds,
    caps_are_kept,
    usage_is_captured_holds,
    wallets_are_the_ledger,
    rollups_are_usage,
    books_are_chained,
    charges_are_chained,
    publishers_are_the_ledger,
    guards_are_in_place,
)


def violations() -> list[str]:
    """Run every check; an empty list means that the books are right."""
    return [f"{check.__name__}: {text}" for check in CHECKS for text in check()]
