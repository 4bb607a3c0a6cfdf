"""Payments that banks take back: of top-ups, and of invoices."""

from __future__ import annotations

from django.contrib import admin
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, ReadOnlyInline, badge
from billing import invoice_disputes, minor
from billing.admin.stripe import dashboard_link
from billing.models import Dispute, TopUp
from billing.stripe import client
from billing.templatetags.money import money


class DisputeInline(ReadOnlyInline):
    """What the bank contests."""

    model = Dispute
    fields = ["id", "state", "reason", "due_at", "closed_at"]


@admin.register(Dispute)
class DisputeAdmin(ReadOnlyAdmin):
    """Payments that a bank took back. The organization is frozen until the dispute is won."""

    list_display = [
        *("id", "organization", "paid_for", "state_badge", "amount", "withdrawn", "taken_back"),
        *("frozen", "reason", "due_at"),
    ]
    list_filter = ["state", "reason", "created_at"]
    list_select_related = ["top_up__organization", "invoice__organization"]
    search_fields = [
        *("=id", "top_up__organization__slug", "invoice__organization__slug", "=invoice__number"),
    ]
    date_hierarchy = "created_at"
    exclude = ["amount_minor", "withdrawn_minor", "top_up", "invoice"]
    readonly_fields = [
        *("paid_for", "state_badge", "amount", "withdrawn", "taken_back", "frozen", "at_stripe"),
    ]

    @admin.display(
        description=_("Organization"),
        ordering=Coalesce("top_up__organization__slug", "invoice__organization__slug"),
    )
    def organization(self, row: Dispute) -> str:
        """Return who paid."""
        return row.payment.organization.slug

    @admin.display(description=_("Paid for"))
    def paid_for(self, row: Dispute) -> str:
        """Return a link to the top-up or the invoice."""
        payment = row.payment
        address = reverse(f"admin:billing_{payment._meta.model_name}_change", args=[payment.pk])
        return format_html('<a href="{}">{}</a>', address, payment)

    @badge(_("State"), {"open": "warning", "won": "success", "lost": "danger"}, ordering="state")
    def state_badge(self, row: Dispute) -> str:
        """Return the state."""
        return row.state

    @admin.display(description=_("Disputed"), ordering="amount_minor")
    def amount(self, row: Dispute) -> str:
        """Return what is contested."""
        return money(minor.to_nanos(row.amount_minor, row.payment.currency))

    @admin.display(description=_("Withdrawn now"), ordering="withdrawn_minor")
    def withdrawn(self, row: Dispute) -> str:
        """Return what Stripe holds of it now."""
        return money(minor.to_nanos(row.withdrawn_minor, row.payment.currency))

    @admin.display(description=_("Credit taken back, or owed again"))
    def taken_back(self, row: Dispute) -> str:
        """Return what all refunds and disputes of the payment have taken from the wallet."""
        payment = row.payment
        if isinstance(payment, TopUp):
            return money(payment.clawed_back_nanos)
        return money(invoice_disputes.booked(payment)["owed"])

    @badge(_("Organization is"), {"frozen": "danger", "active": "success"})
    def frozen(self, row: Dispute) -> str:
        """Return whether the organization may spend."""
        return "frozen" if row.payment.organization.is_frozen else "active"

    @admin.display(description=_("At Stripe"))
    def at_stripe(self, row: Dispute) -> str:
        """Return a link to Stripe's own page, where evidence is sent."""
        return dashboard_link(f"/disputes/{row.pk}", row.pk, livemode=client.is_live())
