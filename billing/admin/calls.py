"""Calls: what was set aside, what was used, what is summed. Read only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, ReasonForm, badge, deed, operator
from billing import charge_refunds
from billing.admin.organizations import AmountField
from billing.models import Hold, UsageEvent, UsageOrphan, UsageRollup
from billing.templatetags.money import money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

OUTCOME_COLORS = {
    "succeeded": "success",
    "model_error": "warning",
    "platform_error": "danger",
    "canceled": "info",
    "limit_reached": "warning",
    "not_started": "info",
    "expired": "warning",
}


def as_uuid(text: str) -> UUID | None:
    """Read an id a person pasted; None if it is something else."""
    try:
        return UUID(text.strip())
    except ValueError:
        return None


class RefundForm(ReasonForm):
    """How much of a charge is given back, and why."""

    amount = AmountField(
        label=_("Amount"),
        required=False,
        help_text=_("In US dollars, such as 0.00002. Empty: what is left of the charge."),
    )
    field_order = ["amount", "reason"]


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    """One line per call or training: what was set aside and what became of it."""

    list_fullwidth = True
    list_display = [
        "id",
        "organization",
        "model_version",
        "source",
        "state_badge",
        "reserved",
        "captured",
        "rows",
        "run_ms",
        "accepted",
        "request_id",
    ]
    list_filter = ["state", "source", "failure", "accepted_at"]
    list_select_related = ["organization", "model_version__model__owner", "usage"]
    search_fields = ["request_id"]
    search_help_text = _("A request id, a hold id, or an organization.")
    fieldsets = [
        (None, {"fields": ["id", "organization", "api_key", "model_version", "source"]}),
        (_("State"), {"fields": ["state_badge", "failure", "request_id"]}),
        (_("Money"), {"fields": ["reserved", "captured", "price_version", "share_version"]}),
        (_("Usage"), {"fields": ["rows", "compute_ms", "queue_ms", "run_ms", "batch", "worker"]}),
        (_("When"), {"fields": ["accepted_at", "finished_at", "expires_at", "settlement"]}),
    ]
    readonly_fields = [
        "state_badge",
        "reserved",
        "captured",
        "rows",
        "compute_ms",
        "queue_ms",
        "run_ms",
        "batch",
        "worker",
    ]
    actions_detail = ["refund_charge"]

    def has_refund_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to give back what was charged and booked."""
        row = Hold.objects.filter(pk=obj, captured_nanos__gt=0, settlement__isnull=False)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Give back"), icon="undo", permission="refund")
    def refund_charge(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give a charge back, in part or in full."""

        def do(hold: Hold, form: dict[str, Any]) -> StrOrPromise:
            made = charge_refunds.refund(
                hold.pk,
                form["amount"],
                external_ref=f"console:{form['submission']}",
                reason=form["reason"],
                actor=operator(request),
            )
            return _("%(amount)s is given back.") % {"amount": money(made.amount_nanos)}

        return self.perform(
            request,
            object_id,
            title=_("Give back"),
            explain=_(
                "The tenant gets the amount as credit. The publisher's part of it is taken back."
            ),
            do=do,
            form_class=RefundForm,
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by id, request id or organization, each exactly: no scan over all text."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = as_uuid(term)
        if found is not None:
            return queryset.filter(pk=found), False
        return queryset.filter(Q(request_id=term) | Q(organization__slug=term)), False

    @badge(
        _("State"),
        {"captured": "success", "authorised": "info", "voided": "warning", "expired": "danger"},
        ordering="state",
    )
    def state_badge(self, hold: Hold) -> str:
        """Return the state."""
        return hold.state

    @admin.display(description=_("Reserved"), ordering="reserved_nanos")
    def reserved(self, hold: Hold) -> str:
        """Return the most the run may cost."""
        return money(hold.reserved_nanos, hold.currency)

    @admin.display(description=_("Charged"), ordering="captured_nanos")
    def captured(self, hold: Hold) -> str:
        """Return what the run cost."""
        return money(hold.captured_nanos, hold.currency)

    @admin.display(description=_("Accepted (UTC)"), ordering="accepted_at")
    def accepted(self, hold: Hold) -> str:
        """Return when the run was asked for."""
        return f"{hold.accepted_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description=_("Rows"))
    def rows(self, hold: Hold) -> Any:
        """Return how many rows were computed."""
        return _usage(hold, "rows")

    @admin.display(description=_("Compute ms"))
    def compute_ms(self, hold: Hold) -> Any:
        """Return the compute that was metered."""
        return _usage(hold, "compute_ms")

    @admin.display(description=_("Queue ms"))
    def queue_ms(self, hold: Hold) -> str:
        """Return how long the run waited."""
        return _milliseconds(_usage(hold, "queue_us"))

    @admin.display(description=_("Run ms"))
    def run_ms(self, hold: Hold) -> str:
        """Return how long the run took."""
        return _milliseconds(_usage(hold, "run_us"))

    @admin.display(description=_("Rows in the batch"))
    def batch(self, hold: Hold) -> Any:
        """Return how many rows ran together."""
        return _usage(hold, "batch_rows")

    @admin.display(description=_("Worker"))
    def worker(self, hold: Hold) -> Any:
        """Return which worker ran it."""
        return _usage(hold, "worker")


def _usage(hold: Hold, name: str) -> Any:
    usage = getattr(hold, "usage", None)
    return getattr(usage, name, None)


def _milliseconds(microseconds: int | None) -> str:
    if microseconds is None:
        return ""
    whole, rest = divmod(microseconds, 1000)
    return f"{whole}.{rest // 100}"


@admin.register(UsageEvent)
class UsageEventAdmin(ReadOnlyAdmin):
    """What each captured run used and cost."""

    list_display = [
        "call",
        "organization",
        "model_version",
        "outcome_badge",
        "rows",
        "compute_ms",
        "cost",
        "publisher",
        "platform",
        "occurred_at",
    ]
    list_filter = ["outcome", "occurred_at"]
    list_select_related = ["organization", "model_version__model__owner"]
    # Ids are ordered by time; there is no index on the instant alone.
    ordering = ["-pk"]
    search_fields = ["organization__slug"]
    search_help_text = _("A hold id, or an organization.")
    readonly_fields = ["cost", "publisher", "platform", "rated"]
    exclude = ["cost_nanos", "publisher_nanos", "platform_nanos", "uncapped_nanos"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by hold id or organization, exactly."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = as_uuid(term)
        if found is not None:
            return queryset.filter(pk=found), False
        return queryset.filter(organization__slug=term), False

    @admin.display(description=_("hold ID"), ordering="pk")
    def call(self, usage: UsageEvent) -> UUID:
        """Return which hold it was captured from."""
        return usage.hold_id

    @badge(_("Outcome"), OUTCOME_COLORS, ordering="outcome")
    def outcome_badge(self, usage: UsageEvent) -> str:
        """Return how the run ended."""
        return usage.outcome

    @admin.display(description=_("Cost"), ordering="cost_nanos")
    def cost(self, usage: UsageEvent) -> str:
        """Return what was charged."""
        return money(usage.cost_nanos)

    @admin.display(description=_("Publisher"))
    def publisher(self, usage: UsageEvent) -> str:
        """Return the publisher's part."""
        return money(usage.publisher_nanos)

    @admin.display(description=_("Platform"))
    def platform(self, usage: UsageEvent) -> str:
        """Return the platform's part."""
        return money(usage.platform_nanos)

    @admin.display(description=_("Rated"))
    def rated(self, usage: UsageEvent) -> str:
        """Return what it came to; no more is charged than was set aside."""
        return money(usage.uncapped_nanos)


@admin.register(UsageRollup)
class UsageRollupAdmin(ReadOnlyAdmin):
    """Usage by the hour."""

    list_display = ["hour", "organization", "model_version_id", "calls", "rows", "cost"]
    list_filter = ["hour"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug"]
    date_hierarchy = "hour"
    ordering = ["-hour", "-pk"]
    readonly_fields = ["cost", "publisher"]
    exclude = ["cost_nanos", "publisher_nanos"]

    @admin.display(description=_("Cost"), ordering="cost_nanos")
    def cost(self, rollup: UsageRollup) -> str:
        """Return what the hour cost."""
        return money(rollup.cost_nanos)

    @admin.display(description=_("Publisher"))
    def publisher(self, rollup: UsageRollup) -> str:
        """Return the publishers' part."""
        return money(rollup.publisher_nanos)


@admin.register(UsageOrphan)
class UsageOrphanAdmin(ReadOnlyAdmin):
    """Reports that came after their hold had ended. Billed nothing; each one has a cause."""

    list_display = ["hold_id", "reason", "created_at"]
    list_filter = ["reason", "created_at"]
    date_hierarchy = "created_at"
    ordering = ["-pk"]
