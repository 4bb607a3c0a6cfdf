"""Credit lines, the close of months, and what was reported to Stripe's meters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts import audit
from accounts.admin import ReadOnlyAdmin, ReasonForm, badge, deed, operator
from billing import (
    invoice_reports,
    meter_sender,
    months,
    periods,
    postpaid,
)
from billing.admin.organizations import LARGEST_NANOS, AmountField
from billing.admin.stripe import dashboard_link
from billing.models import BillingPeriod, MeterReport, Wallet
from billing.stripe import client
from billing.templatetags.money import money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

State = BillingPeriod.State


class LineForm(ReasonForm):
    """How much may be used before it is paid, and why."""

    amount = AmountField(
        label=_("Credit line"),
        lowest=0,
        largest=LARGEST_NANOS,
        help_text=_("In US dollars, such as 500.00; 0 makes the organization prepaid again."),
    )
    field_order = ["amount", "reason"]


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    """Who may use before paying, and what is owed."""

    list_display = ["organization", "paid", "line", "owed", "free", "is_subscribed"]
    list_filter = [("stripe_subscription", admin.EmptyFieldListFilter)]
    list_select_related = ["organization"]
    search_fields = ["organization__slug", "organization__name", "=stripe_customer"]
    ordering = ["-owed_nanos", "-line_nanos", "organization__slug"]
    actions_detail = ["set_line"]
    fields = [
        *("organization", "paid", "line", "owed", "free", "card_label"),
        *("at_stripe", "stripe_subscription", "subscribed_at"),
    ]
    readonly_fields = ["paid", "line", "owed", "free", "at_stripe"]

    @admin.display(description=_("Paid credit"), ordering="paid_nanos")
    def paid(self, wallet: Wallet) -> str:
        """Return the paid credit that is left."""
        return money(wallet.paid_nanos, wallet.currency)

    @admin.display(description=_("Credit line"), ordering="line_nanos")
    def line(self, wallet: Wallet) -> str:
        """Return how much may be used before it is paid."""
        return money(wallet.line_nanos, wallet.currency)

    @admin.display(description=_("Owed"), ordering="owed_nanos")
    def owed(self, wallet: Wallet) -> str:
        """Return what is used and not paid."""
        return money(wallet.owed_nanos, wallet.currency)

    @admin.display(description=_("Left on the line"))
    def free(self, wallet: Wallet) -> str:
        """Return what can be used before the line is full."""
        return money(max(wallet.line_nanos - wallet.owed_nanos, 0), wallet.currency)

    @admin.display(description=_("Subscribed"), boolean=True, ordering="stripe_subscription")
    def is_subscribed(self, wallet: Wallet) -> bool:
        """Return whether Stripe bills the organization each month."""
        return bool(wallet.stripe_subscription)

    @admin.display(description=_("Customer at Stripe"))
    def at_stripe(self, wallet: Wallet) -> str:
        """Return a link to Stripe's own page."""
        return dashboard_link("/customers/", wallet.stripe_customer, livemode=client.is_live())

    @deed(_("Set the credit line"), icon="credit_score")
    def set_line(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let an organization use before it pays, up to an amount."""

        def do(row: Wallet, form: dict[str, Any]) -> StrOrPromise:
            wallet = postpaid.set_line(
                row.organization, form["amount"], actor=operator(request), reason=form["reason"]
            )
            if wallet.line_nanos and not wallet.stripe_subscription:
                return _("The line is set. Stripe does not answer: it is subscribed later.")
            return _("The line is set.")

        return self.perform(
            request,
            object_id,
            title=_("Set the credit line"),
            explain=_(
                "The organization can use this much before it pays; what it used is billed once "
                "a month. A lower line stops new runs at once, and takes nothing back."
            ),
            do=do,
            form_class=LineForm,
        )


@admin.register(BillingPeriod)
class BillingPeriodAdmin(ReadOnlyAdmin):
    """The close of each month: where it is, and what it waits for."""

    list_display = ["organization", "month", "state_badge", "blocked", "used", "changed_at"]
    list_filter = [("blocked", admin.EmptyFieldListFilter), "state", "month"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug", "=stripe_invoice"]
    date_hierarchy = "month"
    actions_detail = ["run_now", "retry", "accept"]
    readonly_fields = ["state_badge", "used", "at_stripe"]
    exclude = ["state"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BillingPeriod]:
        """Add up a page's months in one query."""
        return invoice_reports.with_used(super().get_queryset(request))

    @badge(
        _("State"),
        {"blocked": "danger", State.RECONCILED: "success", State.OPEN: ""},
        ordering="state",
    )
    def state_badge(self, period: BillingPeriod) -> str:
        """Return the state; that it is blocked comes first."""
        return "blocked" if period.blocked else period.state

    @admin.display(description=_("Used on credit"))
    def used(self, period: BillingPeriod) -> str:
        """Return what the month has come to so far."""
        return money(vars(period)["used_nanos"], period.currency)

    @admin.display(description=_("Invoice at Stripe"))
    def at_stripe(self, period: BillingPeriod) -> str:
        """Return a link to Stripe's own page."""
        return dashboard_link("/invoices/", period.stripe_invoice, livemode=client.is_live())

    def has_run_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to go on with what is not blocked and not done."""
        waiting = BillingPeriod.objects.filter(pk=obj, blocked="")
        return self.has_operate_permission(request) and (
            waiting.exclude(state=State.RECONCILED).exists()
        )

    def has_retry_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to look again at what is blocked."""
        row = BillingPeriod.objects.filter(pk=obj).exclude(blocked="")
        return self.has_operate_permission(request) and row.exists()

    def has_accept_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to accept a difference where there is one."""
        row = BillingPeriod.objects.filter(pk=obj, state__in=periods.ACCEPTABLE).exclude(blocked="")
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Run now"), icon="play_arrow", permission="run")
    def run_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Go on with the close without waiting for the clock."""

        def do(row: BillingPeriod, form: dict[str, Any]) -> StrOrPromise:
            audit.record(
                operator(request),
                "billing_period.run",
                row,
                organization=row.organization,
                reason=form["reason"],
            )
            count = periods.close(row)
            return _told(row, count)

        return self.perform(
            request,
            object_id,
            title=_("Run now"),
            explain=_("Every step that is possible now is taken. A month that runs is not closed."),
            do=do,
        )

    @deed(_("Try again"), icon="replay", permission="retry")
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Look again at a blocked month."""

        def do(row: BillingPeriod, form: dict[str, Any]) -> StrOrPromise:
            after = periods.retry(row, actor=operator(request), reason=form["reason"])
            return _told(after, 1)

        return self.perform(
            request,
            object_id,
            title=_("Try again"),
            explain=_("Everything is reported and compared again; nothing is billed twice."),
            do=do,
        )

    @deed(_("Accept"), icon="done", permission="accept")
    def accept(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Close a blocked month with what there is."""

        def do(row: BillingPeriod, form: dict[str, Any]) -> StrOrPromise:
            after = periods.accept(row, actor=operator(request), reason=form["reason"])
            return _told(after, 1)

        return self.perform(
            request,
            object_id,
            title=_("Accept"),
            explain=_(
                "A draft is brought to what the ledger says. Of an invoice that Stripe has made "
                "final its amount is taken, and the difference is carried into the next month."
            ),
            do=do,
        )


def _told(period: BillingPeriod, count: int) -> str:
    if period.blocked:
        return str(_("Blocked: %(why)s") % {"why": period.blocked})
    if not count:
        return str(_("Nothing can be done yet. The month is %(state)s.") % {"state": period.state})
    return str(_("The month is %(state)s now.") % {"state": period.state})


@admin.register(MeterReport)
class MeterReportAdmin(ReadOnlyAdmin):
    """Usage that was told to Stripe, hour by hour."""

    list_display = ["identifier", "owner", "state_badge", "exact", "value", "counted", "last_error"]
    list_filter = ["state", "counted_at"]
    search_fields = ["identifier", "bucket__organization__slug"]
    date_hierarchy = "counted_at"
    ordering = ["-pk"]
    actions_detail = ["send_again", "is_counted", "count_now"]
    readonly_fields = ["owner", "state_badge", "exact", "counted"]
    exclude = ["bucket", "state", "nanos_from", "nanos_to"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[MeterReport]:
        """Read the organizations in the same query."""
        found: QuerySet[MeterReport] = super().get_queryset(request)
        return found.select_related("bucket__organization")

    @admin.display(description=_("Organization"), ordering="bucket__organization__slug")
    def owner(self, report: MeterReport) -> str:
        """Return who used it."""
        return str(report.bucket.organization)

    @badge(
        _("State"),
        {"pending": "info", "unknown": "warning", "ok": "success", "rejected": "danger"},
        ordering="state",
    )
    def state_badge(self, report: MeterReport) -> str:
        """Return whether Stripe counts it."""
        return report.state

    @admin.display(description=_("Amount"))
    def exact(self, report: MeterReport) -> str:
        """Return the exact amount it stands for."""
        return money(report.nanos_to - report.nanos_from, report.bucket.currency)

    @admin.display(description=_("Counts for (UTC)"), ordering="counted_at")
    def counted(self, report: MeterReport) -> str:
        """Return when it counts at Stripe; its own month, or later."""
        text = f"{report.counted_at:%Y-%m-%d %H:%M:%S}"
        if months.of(report.counted_at) == months.of(report.bucket.hour):
            return text
        return _("%(instant)s (late)") % {"instant": text}

    def has_send_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to send again what Stripe has refused."""
        row = MeterReport.objects.filter(pk=obj, state=MeterReport.State.REJECTED)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Send again"), icon="replay", permission="send")
    def send_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a refused report once more."""

        def do(row: MeterReport, form: dict[str, Any]) -> StrOrPromise:
            meter_sender.retry(row, actor=operator(request), reason=form["reason"])
            return _("The report is sent again within a minute, under its own identifier.")

        return self.perform(
            request,
            object_id,
            title=_("Send again"),
            explain=_("If it was sent before, Stripe's sum of the hour is looked at first."),
            do=do,
        )

    @deed(_("It is counted"), icon="check", permission="send")
    def is_counted(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take a refused report for counted."""
        return self.perform(
            request,
            object_id,
            title=_("It is counted"),
            explain=_(
                "Stripe's own page of the customer shows this usage. Nothing is sent; its month "
                "can be closed."
            ),
            do=lambda row, form: self._decide(request, row, form, is_counted=True),
        )

    @deed(_("Count it now"), icon="update", permission="send")
    def count_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let a refused report count for the month that runs."""
        return self.perform(
            request,
            object_id,
            title=_("Count it now"),
            explain=_(
                "Stripe's own page of the customer does not show this usage. It is sent with "
                "today's date and billed with the month that runs; its own month can be closed."
            ),
            do=lambda row, form: self._decide(request, row, form, is_counted=False),
        )

    def _decide(
        self, request: HttpRequest, row: MeterReport, form: dict[str, Any], *, is_counted: bool
    ) -> StrOrPromise:
        meter_sender.decide(
            row, is_counted=is_counted, actor=operator(request), reason=form["reason"]
        )
        return _("Noted.") if is_counted else _("The report is sent within a minute.")
