"""The ledger: accounts, trial balance, statements of accounts, transactions, search, export."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.admin import ReadOnlyAdmin, ReadOnlyInline, badge, deed, operator
from billing import adjustments, journal, receipts
from billing.checks import books
from billing.models import LedgerAccount, LedgerEntry, LedgerTransaction
from billing.snapshots import one_snapshot
from billing.templatetags.money import money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# Accounts whose credit side is their plus: shown as positive when they hold something.
# A settlement may have been taken back in very many parts.
_REVERSALS = 20
CREDIT_NORMAL = {LedgerAccount.Kind.LIABILITY, LedgerAccount.Kind.INCOME}


def day_of(request: HttpRequest, name: str, usual: date) -> date:
    """Read a day of the address; nonsense means the usual one."""
    try:
        return parse_date(request.GET.get(name, "")) or usual
    except ValueError:
        return usual


def today() -> date:
    """Return the day it is, UTC."""
    return timezone.now().astimezone(UTC).date()


@admin.register(LedgerAccount)
class LedgerAccountAdmin(ReadOnlyAdmin):
    """The chart of accounts, with balances."""

    list_display = ["code", "kind", "organization", "balance", "statement_link"]
    list_filter = ["kind"]
    list_select_related = ["organization"]
    search_fields = ["code", "organization__slug"]
    readonly_fields = ["balance", "statement_link"]
    list_before_template = "admin/ledger_links.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerAccount]:
        """Sum the entries in the same query."""
        found: QuerySet[LedgerAccount] = super().get_queryset(request)
        return found.annotate(sum_nanos=Sum("entries__amount_nanos"))

    def get_urls(self) -> list[URLPattern]:
        """Add the trial balance and the statement of an account."""
        view = self.admin_site.admin_view
        mine = [
            path("trial-balance/", view(self.trial_balance), name="billing_trial_balance"),
            path("<int:pk>/statement/", view(self.statement), name="billing_account_statement"),
        ]
        return mine + super().get_urls()

    @admin.display(description=gettext_lazy("Balance"), ordering="sum_nanos")
    def balance(self, account: Any) -> str:
        """Return what the account holds, positive on its normal side."""
        sign = -1 if account.kind in CREDIT_NORMAL else 1
        return money(sign * (account.sum_nanos or 0), account.currency)

    @admin.display(description=gettext_lazy("Statement"))
    def statement_link(self, account: LedgerAccount) -> str:
        """Return the way to the account's entries with a running balance."""
        address = reverse("admin:billing_account_statement", args=[account.pk])
        return format_html('<a class="underline" href="{}">{}</a>', address, _("Statement"))

    def trial_balance(self, request: HttpRequest) -> HttpResponse:
        """Show that all accounts together are zero, at the end of a day; `verify` the chains."""
        self._require_view(request)
        until = day_of(request, "until", today())
        found = journal.trial_balance(until)
        troubles = None
        if "verify" in request.GET:
            with one_snapshot():
                troubles = [*books.books_are_chained(), *books.charges_are_chained()]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Trial balance"),
            "until": until,
            "balance": found,
            "troubles": troubles,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/trial_balance.html", context)

    def statement(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show an account's entries, newest first, each with the balance after it."""
        self._require_view(request)
        account = LedgerAccount.objects.select_related("organization").filter(pk=pk).first()
        if account is None:
            raise Http404
        before = request.GET.get("before", "")
        lines, following = journal.statement(account, int(before) if before.isdecimal() else None)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Statement of %(account)s") % {"account": account.code},
            "account": account,
            "lines": lines,
            "following": following,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/account_statement.html", context)

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


class EntryInline(ReadOnlyInline):
    """The lines of a transaction."""

    model = LedgerEntry
    fields = ["account", "debit", "credit"]
    readonly_fields = ["debit", "credit"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        """Read the accounts in the same query."""
        found: QuerySet[LedgerEntry] = super().get_queryset(request)
        return found.select_related("account").order_by("pk")

    @admin.display(description=gettext_lazy("Debit"))
    def debit(self, entry: LedgerEntry) -> str:
        """Return the amount if it is a debit."""
        return money(entry.amount_nanos) if entry.amount_nanos > 0 else ""

    @admin.display(description=gettext_lazy("Credit"))
    def credit(self, entry: LedgerEntry) -> str:
        """Return the amount if it is a credit."""
        return money(-entry.amount_nanos) if entry.amount_nanos < 0 else ""


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(ReadOnlyAdmin):
    """What was booked: entries that sum to zero, sealed, each the next link of its book's chain."""

    list_display = ["id", "kind", "external_ref", "organization", "actor", "reason", "posted_at"]
    list_filter = ["kind", "posted_at"]
    list_select_related = ["organization", "actor"]
    search_fields = ["external_ref", "organization__slug"]
    search_help_text = gettext_lazy(
        "Words of the reference, a hash, or: kind:settlement account:tenant:7:credit amount:1..5 "
        "organization:acme actor:ann@example.com from:2026-11-01 to:2026-11-30"
    )
    date_hierarchy = "posted_at"
    inlines = [EntryInline]
    actions_detail = ["take_back"]
    list_before_template = "admin/ledger_links.html"
    fieldsets = [
        (None, {"fields": ["kind", "external_ref", "organization", "posted_at", "details"]}),
        (gettext_lazy("Why"), {"fields": ["actor", "reason", "reversal_of", "reversed_by_link"]}),
        (gettext_lazy("Chain"), {"fields": ["seal", "number", "previous_hash", "hash"]}),
    ]
    readonly_fields = ["seal", "reversed_by_link"]

    def get_urls(self) -> list[URLPattern]:
        """Add the export."""
        view = self.admin_site.admin_view(self.export)
        return [path("export.csv", view, name="billing_ledger_export"), *super().get_urls()]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Read `name:value` words; the rest is looked for in references and hashes."""
        try:
            return journal.search(queryset, search_term), False
        except ValueError as error:
            messages.warning(request, str(error))
            return queryset.none(), False

    def has_reverse_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to take back what an entry by hand may take back."""
        row = LedgerTransaction.objects.filter(pk=obj).first()
        allowed = self.has_operate_permission(request)
        return allowed and row is not None and adjustments.can_reverse(row)

    @deed(gettext_lazy("Reverse"), icon="undo", permission="reverse")
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
            title=_("Reverse"),
            explain=_("The opposite of its entries is booked; the transaction itself stays."),
            do=do,
        )

    @badge(gettext_lazy("Seal"), {"verified": "success", "broken": "danger"})
    def seal(self, booked: LedgerTransaction) -> str:
        """Work the hash out again, and look at the links before and after."""
        return "verified" if receipts.is_sealed(booked) else "broken"

    @admin.display(description=gettext_lazy("Reversed by"))
    def reversed_by_link(self, booked: LedgerTransaction) -> str:
        """Return the ways to what took this back, in part or in full: the first ones."""
        page = "admin:billing_ledgertransaction_change"
        return format_html_join(
            SafeString("<br>"),
            '<a class="underline" href="{}">{}</a>',
            (
                (reverse(page, args=[each.pk]), str(each))
                for each in booked.reversals.order_by("pk")[:_REVERSALS]
            ),
        )

    def export(self, request: HttpRequest) -> StreamingHttpResponse:
        """Send all entries of a period as CSV, in pieces."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        start = day_of(request, "start", today().replace(day=1))
        end = day_of(request, "end", today())
        lines: AsyncIterator[str] = journal.csv_lines(
            _midnight(start), _midnight(end + timedelta(days=1))
        )
        answer = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="ledger-{start}-{end}.csv"'
        return answer


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


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

    @admin.display(description=gettext_lazy("Debit − credit"), ordering="amount_nanos")
    def amount(self, entry: LedgerEntry) -> str:
        """Return the amount, debit positive."""
        return money(entry.amount_nanos)
