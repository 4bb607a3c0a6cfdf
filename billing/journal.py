"""The ledger as operators read it: trial balance, statements of accounts, search, export."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from asgiref.sync import sync_to_async
from django.db.models import Q, QuerySet, Sum
from django.utils.dateparse import parse_date

from billing.exports import plain
from billing.models import LedgerAccount, LedgerEntry, LedgerTransaction
from billing.money import decimal_text, parse

PAGE = 50
BATCH = 500
COLUMNS = [
    *("posted_at", "transaction", "organization", "number", "kind", "external_ref", "reason"),
    *("actor", "account", "debit", "credit", "currency", "hash"),
]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the trial balance: an account, or the same account of all organizations."""

    code: str
    kind: str
    accounts: int
    nanos: int

    @property
    def debit(self) -> int:
        """What it holds if that is a debit."""
        return max(self.nanos, 0)

    @property
    def credit(self) -> int:
        """What it holds if that is a credit."""
        return max(-self.nanos, 0)


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """All accounts; debit and credit must be the same."""

    rows: Sequence[Row]
    kinds: Mapping[str, int]

    @property
    def debit(self) -> int:
        """The sum of all debit balances."""
        return sum(row.debit for row in self.rows)

    @property
    def credit(self) -> int:
        """The sum of all credit balances."""
        return sum(row.credit for row in self.rows)

    @property
    def is_balanced(self) -> bool:
        """Whether everything sums to zero."""
        return sum(row.nanos for row in self.rows) == 0


def trial_balance(until: date) -> TrialBalance:
    """Return the balance of every account at the end of a day, UTC."""
    end = datetime.combine(until + timedelta(days=1), time.min, tzinfo=UTC)
    sums = (
        LedgerEntry.objects.filter(transaction__posted_at__lt=end)
        .order_by()
        .values_list("account__code", "account__kind")
        .annotate(total=Sum("amount_nanos"))
        .values_list("account__code", "account__kind", "total")
    )
    rows: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    kinds: dict[str, int] = defaultdict(int)
    for code, kind, total in sums:
        row = rows[re.sub(r":\d+:", ":*:", code), kind]
        row[0] += 1
        row[1] += total
        kinds[kind] += total
    found = [Row(code, kind, *values) for (code, kind), values in sorted(rows.items())]
    return TrialBalance(found, dict(sorted(kinds.items())))


@dataclass(frozen=True, slots=True)
class Line:
    """An entry with the balance after it, debit positive, in nanos."""

    entry: LedgerEntry
    balance_nanos: int


def statement(account: LedgerAccount, before: int | None = None) -> tuple[list[Line], int | None]:
    """Return a page of an account's entries, newest first, and where the next one begins.

    Args:
        before: Entries with a smaller id than this; None for the newest.
    """
    entries = LedgerEntry.objects.filter(account=account)
    if before is not None:
        entries = entries.filter(pk__lt=before)
    balance = entries.aggregate(sum=Sum("amount_nanos"))["sum"] or 0
    newest = entries.select_related("transaction__organization").order_by("-pk")
    found = list(newest[: PAGE + 1])
    lines = []
    for entry in found[:PAGE]:
        lines.append(Line(entry, balance))
        balance -= entry.amount_nanos
    return lines, found[PAGE - 1].pk if len(found) > PAGE else None


# Search -------------------------------------------------------------------------------------


def search(found: QuerySet[LedgerTransaction], text: str) -> QuerySet[LedgerTransaction]:
    """Narrow transactions down by words such as `kind:settlement` or `amount:1..5`.

    Raises:
        ValueError: A word is not understood; the message is for the operator.
    """
    for word in text.split():
        name, colon, value = word.partition(":")
        if colon and name in _NARROW:
            found = found.filter(_NARROW[name](value))
        else:
            found = found.filter(_anything(word))
    return found.distinct()


def _anything(word: str) -> Q:
    wanted = Q(external_ref__icontains=word) | Q(organization__slug=word) | Q(hash=word)
    return wanted | Q(pk=int(word)) if word.isdecimal() and len(word) < 18 else wanted


def _amount(value: str) -> Q:
    """Any entry of so much, on either side; a range is `1..5`, either end may be left out."""
    low, dots, high = value.partition("..")
    least = parse(low) if low else 0
    most = parse(high) if high else None if dots else least
    wanted = Q(entries__amount_nanos__gte=least)
    if most is not None:
        wanted &= Q(entries__amount_nanos__lte=most)
    return wanted


def _day(value: str) -> datetime:
    try:
        found = parse_date(value)
    except ValueError:
        found = None
    if found is None:
        raise ValueError(f"{value!r} is not a day such as 2026-01-31.")
    return datetime.combine(found, time.min, tzinfo=UTC)


_NARROW: Mapping[str, Callable[[str], Q]] = {
    "kind": lambda value: Q(kind=value),
    "ref": lambda value: Q(external_ref__icontains=value),
    "account": lambda value: Q(entries__account__code=value),
    "amount": _amount,
    "organization": lambda value: Q(organization__slug=value),
    "actor": lambda value: Q(actor__email__iexact=value),
    "from": lambda value: Q(posted_at__gte=_day(value)),
    "to": lambda value: Q(posted_at__lt=_day(value) + timedelta(days=1)),
}


# Export -------------------------------------------------------------------------------------


async def csv_lines(start: datetime, end: datetime) -> AsyncIterator[str]:
    """Write all entries of a period, oldest first, a batch of transactions at a time."""
    yield _csv([COLUMNS])
    after = 0
    while True:
        rows, last = await sync_to_async(_batch)(start, end, after)
        yield _csv(rows)
        if last is None:
            return
        after = last


def _batch(start: datetime, end: datetime, after: int) -> tuple[list[list[str]], int | None]:
    within = LedgerTransaction.objects.filter(
        posted_at__gte=start, posted_at__lt=end, pk__gt=after
    ).select_related("organization", "actor")
    found = list(within.prefetch_related("entries__account").order_by("pk")[:BATCH])
    rows = [_row(booked, entry) for booked in found for entry in booked.entries.all()]
    return rows, found[-1].pk if len(found) == BATCH else None


def _row(booked: LedgerTransaction, entry: LedgerEntry) -> list[str]:
    nanos = entry.amount_nanos
    return [
        *(booked.posted_at.isoformat(), str(booked.pk)),
        booked.organization.slug if booked.organization else "",
        *(str(booked.number), booked.kind, plain(booked.external_ref), plain(booked.reason)),
        *(booked.actor.email if booked.actor else "", entry.account.code),
        decimal_text(nanos) if nanos > 0 else "",
        decimal_text(-nanos) if nanos < 0 else "",
        *(entry.account.currency, booked.hash),
    ]


def _csv(rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
