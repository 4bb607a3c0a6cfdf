"""Proves the books: each check returns what is wrong, in words; nothing is repaired."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from billing import publisher_books
from billing.checks.books import (
    books_are_chained,
    charges_are_chained,
    guards_are_in_place,
    transactions_balance,
)
from billing.checks.caps import caps_are_kept, held_is_open_holds, posted_is_captured_holds
from billing.checks.invoices import (
    buckets_are_cut_as_reported,
    disputed_invoices_are_booked,
    invoices_are_frozen,
    numbers_have_no_gaps,
)
from billing.checks.payments import (
    top_ups_are_credited_once,
    top_ups_are_given_back_as_booked,
)
from billing.checks.rating import usage_is_rated_by_its_price
from billing.checks.trouble import Trouble
from billing.checks.usage import (
    meters_are_the_ledger,
    reports_are_their_meters,
    rollups_are_usage,
    settlements_are_their_holds,
    usage_is_captured_holds,
)
from billing.checks.wallets import (
    publishers_are_the_ledger,
    wallets_are_the_ledger,
    wallets_are_their_budgets,
)

# A check may also say it in plain words; then the words are the subject.
Check = Callable[[], Sequence[Trouble | str]]

CHECKS: tuple[Check, ...] = (
    transactions_balance,
    held_is_open_holds,
    posted_is_captured_holds,
    caps_are_kept,
    usage_is_captured_holds,
    usage_is_rated_by_its_price,
    settlements_are_their_holds,
    wallets_are_the_ledger,
    wallets_are_their_budgets,
    rollups_are_usage,
    meters_are_the_ledger,
    reports_are_their_meters,
    books_are_chained,
    charges_are_chained,
    publishers_are_the_ledger,
    publisher_books.accrued_is_the_ledger,
    publisher_books.payable_is_the_ledger,
    publisher_books.earnings_are_shares,
    publisher_books.refunds_are_within_charges,
    publisher_books.payouts_are_booked,
    top_ups_are_credited_once,
    top_ups_are_given_back_as_booked,
    buckets_are_cut_as_reported,
    invoices_are_frozen,
    numbers_have_no_gaps,
    disputed_invoices_are_booked,
    guards_are_in_place,
)


def violations() -> list[str]:
    """Run every check; an empty list means that the books are right."""
    return [f"{check.__name__}: {text}" for check in CHECKS for text in check()]


__all__ = ["CHECKS", "Check", "caps_are_kept", "violations"]
