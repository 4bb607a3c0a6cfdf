"""Budgets, ledger, settlements. Read only: a correction is a new transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import F, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, ReadOnlyInline, badge, deed, operator
from billing import adjustments
from billing.models import (
    Budget,
    LedgerAccount,
    LedgerEntry,
    LedgerTransaction,
    Settlement,
    SpendLimit,
)
from billing.templatetags.money import cap, money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# Accounts whose credit side is their plus: shown as positive when they hold something.
CREDIT_NORMAL = {LedgerAccount.Kind.LIABILITY, LedgerAccount.Kind.INCOME}


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


@admin.register(LedgerAccount)
class LedgerAccountAdmin(ReadOnlyAdmin):
    """The chart of accounts, with balances."""

    list_display = ["code", "kind", "organization", "balance"]
    list_filter = ["kind"]
    list_select_related = ["organization"]
    search_fields = ["code", "organization__slug"]
    readonly_fields = ["balance"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerAccount]:
        """Sum the entries in the same query."""
        found: QuerySet[LedgerAccount] = super().get_queryset(request)
        return found.annotate(sum_nanos=Sum("entries__amount_nanos"))

    @admin.display(description=_("Balance"), ordering="sum_nanos")
    def balance(self, account: Any) -> str:
        """Return what the account holds, positive on its normal side."""
        sign = -1 if account.kind in CREDIT_NORMAL else 1
        return money(sign * (account.sum_nanos or 0), account.currency)


class EntryInline(ReadOnlyInline):
    """The lines of a transaction."""

    model = LedgerEntry
    fields = ["account", "debit", "credit"]
    readonly_fields = ["debit", "credit"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        """Read the accounts in the same query."""
        found: QuerySet[LedgerEntry] = super().get_queryset(request)
        return found.select_related("account").order_by("pk")

    @admin.display(description=_("Debit"))
    def debit(self, entry: LedgerEntry) -> str:
        """Return the amount if it is a debit."""
        return money(entry.amount_nanos) if entry.amount_nanos > 0 else ""

    @admin.display(description=_("Credit"))
    def credit(self, entry: LedgerEntry) -> str:
        """Return the amount if it is a credit."""
        return money(-entry.amount_nanos) if entry.amount_nanos < 0 else ""


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(ReadOnlyAdmin):
    """What was booked: entries that sum to zero."""

    list_display = ["id", "kind", "external_ref", "organization", "actor", "reason", "posted_at"]
    list_filter = ["kind", "posted_at"]
    list_select_related = ["organization", "actor"]
    search_fields = ["external_ref", "organization__slug"]
    date_hierarchy = "posted_at"
    inlines = [EntryInline]
    actions_detail = ["take_back"]

    def has_reverse_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to take back what an entry by hand may take back."""
        row = LedgerTransaction.objects.filter(pk=obj).first()
        allowed = self.has_operate_permission(request)
        return allowed and row is not None and adjustments.can_reverse(row)

    @deed(_("Take back"), icon="undo", permission="reverse")
    def take_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Book the opposite of a transaction, once."""

        def do(row: LedgerTransaction, form: dict[str, Any]) -> StrOrPromise:
            made = adjustments.reverse(
                row, form["submission"], reason=form["reason"], actor=operator(request)
            )
            if made.ledger_transaction is None:
                return _("Another operator must approve it.")
            return _("The opposite is booked.")

        return self.perform(
            request,
            object_id,
            title=_("Take back"),
            explain=_("The opposite of its entries is booked; the transaction itself stays."),
            do=do,
        )


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    """Every line of the journal."""

    list_display = ["id", "transaction", "account", "amount"]
    list_filter = ["account__kind"]
    list_select_related = ["transaction", "account"]
    search_fields = ["account__code", "transaction__external_ref"]
    ordering = ["-pk"]
    readonly_fields = ["amount"]
    exclude = ["amount_nanos"]

    @admin.display(description=_("Debit − credit"), ordering="amount_nanos")
    def amount(self, entry: LedgerEntry) -> str:
        """Return the amount, debit positive."""
        return money(entry.amount_nanos)


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
