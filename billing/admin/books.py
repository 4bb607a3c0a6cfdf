"""Budgets, limits, settlements. Read only."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, badge
from billing.models import Budget, Settlement, SpendLimit
from billing.templatetags.money import cap, money


@admin.register(Budget)
class BudgetAdmin(ReadOnlyAdmin):
    """Wallets, and the windows of spending limits."""

    list_display = [
        "organization",
        "lock_rank",
        "window",
        "window_start",
        "limit",
        "set_aside",
        "used",
        "left",
        "kept",
    ]
    list_filter = ["lock_rank", "window", "unit", "window_start"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug", "api_key__name"]
    ordering = ["-pk"]
    readonly_fields = ["limit", "set_aside", "used", "left"]
    exclude = ["capacity", "spent_before", "held", "posted"]

    @admin.display(description=_("Capacity"), ordering=F("capacity") + F("spent_before"))
    def limit(self, budget: Budget) -> str:
        """Return the most that may be used and held."""
        return cap(budget.limit, budget.unit)

    @admin.display(description=_("Held"), ordering="held")
    def set_aside(self, budget: Budget) -> str:
        """Return what is set aside."""
        return cap(budget.held, budget.unit)

    @admin.display(description=_("Posted"), ordering="posted")
    def used(self, budget: Budget) -> str:
        """Return what was used."""
        return cap(budget.used, budget.unit)

    @admin.display(description=_("Available"), ordering=F("capacity") - F("posted") - F("held"))
    def left(self, budget: Budget) -> str:
        """Return what is left."""
        return cap(budget.available, budget.unit)

    @badge(_("Cap"), {"kept": "success", "lowered": "warning"})
    def kept(self, budget: Budget) -> str:
        """Return whether more is spent than allowed, which only lowering the cap can cause."""
        return "kept" if budget.available >= 0 else "lowered"


@admin.register(SpendLimit)
class SpendLimitAdmin(ReadOnlyAdmin):
    """What organizations and keys may spend per window; set by their owners."""

    list_display = ["organization", "api_key", "window", "unit", "limit", "created_at"]
    list_filter = ["window", "unit"]
    list_select_related = ["organization", "api_key"]
    search_fields = ["organization__slug", "api_key__name"]
    readonly_fields = ["limit"]
    exclude = ["amount"]

    @admin.display(description=_("Amount"), ordering="amount")
    def limit(self, rule: SpendLimit) -> str:
        """Return the limit in its unit."""
        return cap(rule.amount, rule.unit)


@admin.register(Settlement)
class SettlementAdmin(ReadOnlyAdmin):
    """Batches of finished calls, each booked by one transaction."""

    list_display = ["id", "organization", "hold_count", "reserved", "captured", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug"]
    date_hierarchy = "created_at"
    ordering = ["-pk"]
    readonly_fields = ["reserved", "captured"]
    exclude = ["reserved_nanos", "captured_nanos"]

    @admin.display(description=_("Reserved"), ordering="reserved_nanos")
    def reserved(self, settlement: Settlement) -> str:
        """Return what the holds had set aside."""
        return money(settlement.reserved_nanos, settlement.currency)

    @admin.display(description=_("Charged"), ordering="captured_nanos")
    def captured(self, settlement: Settlement) -> str:
        """Return what the runs cost."""
        return money(settlement.captured_nanos, settlement.currency)
