"""The console's pages about money, and about organizations and prices, which show amounts."""

from __future__ import annotations

from billing.admin import books, calls, organizations, price_changes, prices, reconciliation, stripe

__all__ = ["books", "calls", "organizations", "price_changes", "prices", "reconciliation", "stripe"]
