"""Prices that somebody wants: the preview, and who approves them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, badge, deed, operator
from billing import price_changes, price_previews
from billing.templatetags.money import wanted_lines
from catalog.models import PriceChange

_STATES = {
    "proposed": "warning",
    "approved": "success",
    "rejected": "danger",
    "withdrawn": "info",
}


@admin.register(PriceChange)
class PriceChangeAdmin(ReadOnlyAdmin):
    """Proposals, with what last month would have cost by them."""

    list_display = ["thing", "wanted", "state_badge", "proposed_by", "proposed_at", "decided_by"]
    list_filter = ["state", "proposed_at"]
    list_select_related = ["model__owner", "proposed_by", "decided_by"]
    search_fields = ["model__name", "model__owner__slug", "sku"]
    date_hierarchy = "proposed_at"
    fields = [
        *("thing", "wanted", "now", "begins", "reason", "state_badge"),
        *("proposed_by", "proposed_at", "decided_by", "decided_at", "decision_reason"),
        *("noticed_at", "month"),
    ]
    readonly_fields = ["thing", "wanted", "now", "begins", "state_badge", "month"]
    actions_detail = ["approve", "reject", "withdraw"]

    @admin.display(description=_("What"), ordering="model__name")
    def thing(self, change: PriceChange) -> str:
        """Return the model, or the name of what belongs to none."""
        return price_changes.target_of(change).name

    @admin.display(description=_("Price"))
    def wanted(self, change: PriceChange) -> str:
        """Return the price in one line."""
        return " + ".join(wanted_lines(change))

    @admin.display(description=_("Price it follows"))
    def now(self, change: PriceChange) -> SafeString:
        """Return what it would take over from, or took over from."""
        return render_to_string("admin/_price_before.html", {"price": price_changes.before(change)})

    @admin.display(description=_("Begins"))
    def begins(self, change: PriceChange) -> SafeString:
        """Return from when on it applies, or would, and who must be told."""
        waits = change.state == PriceChange.State.PROPOSED
        found = price_changes.effect_of(change) if waits else None
        return render_to_string("admin/_price_begins.html", {"change": change, "effect": found})

    @admin.display(description=_("Last 30 days at this price"))
    def month(self, change: PriceChange) -> SafeString:
        """Return what each tenant paid and would have paid."""
        preview = price_previews.read(change.preview)
        return render_to_string("admin/_price_preview.html", {"preview": preview})

    @badge(_("State"), _STATES, ordering="state")
    def state_badge(self, change: PriceChange) -> str:
        """Return what became of it."""
        return change.state

    def has_decide_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to decide what is not decided."""
        waits = PriceChange.objects.filter(pk=obj, state=PriceChange.State.PROPOSED)
        return self.has_operate_permission(request) and waits.exists()

    @deed(_("Approve"), icon="check", permission="decide")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make the price."""

        def do(change: PriceChange, form: dict[str, Any]) -> Any:
            made = price_changes.approve(change, actor=operator(request), reason=form["reason"])
            return _("The price applies from %(instant)s UTC.") % {
                "instant": f"{made.effective_from:%Y-%m-%d %H:%M:%S}"
            }

        return self.perform(
            request,
            object_id,
            title=_("Approve this price"),
            explain=_(
                "It becomes a price version, which never changes. Tenants whose price becomes "
                "higher are told by mail, and it begins when their notice has passed."
            ),
            do=do,
        )

    @deed(_("Reject"), icon="block", permission="decide")
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Refuse the price, for a reason."""

        def do(change: PriceChange, form: dict[str, Any]) -> Any:
            price_changes.reject(change, actor=operator(request), reason=form["reason"])
            return _("The price is rejected.")

        return self.perform(
            request,
            object_id,
            title=_("Reject this price"),
            explain=_("The publisher sees the reason and may propose another price."),
            do=do,
        )

    @deed(_("Withdraw"), icon="undo", permission="decide")
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take the proposal back."""

        def do(change: PriceChange, form: dict[str, Any]) -> Any:
            price_changes.withdraw(change, actor=operator(request), reason=form["reason"])
            return _("The proposal is withdrawn.")

        return self.perform(
            request,
            object_id,
            title=_("Withdraw this proposal"),
            explain=_("Nothing changes; another price may be proposed."),
            do=do,
        )
