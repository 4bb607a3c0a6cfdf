"""The ledger by itself: sums, seals, chains, guards."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count, Q, Sum

from billing import chains, finished, ledger, triggers
from billing.checks.trouble import Trouble
from billing.models import LedgerBook, LedgerEntry, LedgerTransaction, Settlement


def transactions_balance() -> list[Trouble]:
    """Every ledger transaction has two entries or more and sums to zero, as do all together."""
    wrong = LedgerTransaction.objects.annotate(
        total=Sum("entries__amount_nanos"), lines=Count("entries")
    ).filter(Q(total=None) | ~Q(total=0) | Q(lines__lt=2))
    found = [
        Trouble(
            f"transaction:{row.pk}",
            f"transaction {row.pk} has {row.lines} entries, sum {row.total}",
            row.organization_id,
            0,
            row.total,
        )
        for row in wrong
    ]
    return found + [
        Trouble(f"currency:{code}", f"all entries in {code} sum to {total}", None, 0, total)
        for code, total in _totals()
        if total and not found
    ]


def _totals() -> Iterator[tuple[str, int]]:
    """Yield (currency, sum of all entries): the trial balance, in one number each."""
    sums = LedgerEntry.objects.order_by().values_list("account__currency")
    yield from sums.annotate(total=Sum("amount_nanos")).order_by("account__currency")


def books_are_chained() -> list[Trouble]:
    """Every transaction is sealed, and each book is one chain without a gap."""
    found, heads = [], dict[int, tuple[int, str]]()
    transactions = LedgerTransaction.objects.order_by("organization_id", "number")
    for booked in transactions.prefetch_related("entries__account").iterator(chunk_size=1000):
        book = booked.organization_id or 0
        length, head = heads.get(book, (0, ""))
        follows = (booked.number, booked.previous_hash) == (length + 1, head)
        if not booked.is_sealed or not follows or booked.hash != ledger.digest_of(booked):
            text = f"transaction {booked.pk} does not continue book {book}"
            found.append(Trouble(f"transaction:{booked.pk}", text, booked.organization_id))
        heads[book] = (booked.number or length, booked.hash)
    for row in LedgerBook.objects.order_by("pk"):
        if (row.length, row.head) != heads.get(row.organization_id, (0, "")):
            owner = row.organization_id
            text = f"book {owner} does not end where it says"
            found.append(Trouble(f"book:{owner}", text, owner or None))
    return found


def charges_are_chained() -> list[Trouble]:
    """Each settlement's digest follows from its charges and from the settlement before it."""
    found, heads = [], dict[int, str]()
    for settlement in Settlement.objects.select_related("ledger_transaction").order_by("pk"):
        charges = finished.of_settlement(settlement.pk)
        owner, booked = settlement.organization_id, settlement.ledger_transaction
        subject = f"settlement:{settlement.pk}"
        if settlement.digest != chains.of_settlement(heads.get(owner, ""), charges):
            text = f"settlement {settlement.pk} does not say what was charged"
            found.append(Trouble(subject, text, owner))
        elif booked is not None and booked.details.get("digest") != settlement.digest:
            text = f"settlement {settlement.pk} is not what transaction {booked.pk} booked"
            found.append(Trouble(subject, text, owner))
        heads[owner] = settlement.digest
    return found


def guards_are_in_place() -> list[Trouble]:
    """The database refuses by itself what must not happen."""
    return [Trouble(f"trigger:{name}", f"trigger {name} is missing") for name in triggers.missing()]
