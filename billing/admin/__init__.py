"""The console's pages about money, and about organizations and prices, which show amounts."""

from __future__ import annotations

from billing.admin import (
    books,
    calls,
    corrections,
    disputes,
    invoices,
    ledger,
    organizations,
    postpaid,
    prepaid,
    price_changes,
    prices,
    promotions,
    publishers,
    reconciliation,
    stripe,
)

__all__ = [
    "books",
    "calls",
    "corrections",
    "disputes",
    "invoices",
    "ledger",
    "organizations",
    "postpaid",
    "prepaid",
    "price_changes",
    "prices",
    "promotions",
    "publishers",
    "reconciliation",
    "stripe",
]
