"""Invoices: read, printed, corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, ReasonForm, badge, deed, operator
from accounts.errors import ConflictError
from billing import credit_notes, invoice_payments, invoice_reports, minor
from billing.admin.disputes import DisputeInline
from billing.admin.organizations import AmountField
from billing.admin.stripe import dashboard_link
from billing.models import Invoice
from billing.staleness import StaleError
from billing.stripe import client
from billing.stripe.errors import StripeCallError
from billing.templatetags.invoices import coins
from billing.templatetags.money import money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


class CreditNoteForm(ReasonForm):
    """How much of an invoice is taken back, and why."""

    amount = AmountField(
        label=_("Amount"), help_text=_("With tax, in whole cents. The customer reads the reason.")
    )
    field_order = ["amount", "reason"]


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    """What was billed; frozen with its number."""

    list_display = ["number", "organization", "month", "state_badge", "total", "issued_at"]
    list_filter = ["state", "issued_at"]
    list_select_related = ["organization", "period"]
    search_fields = ["number", "organization__slug", "=stripe_invoice"]
    date_hierarchy = "issued_at"
    inlines = [DisputeInline]
    actions_detail = ["pdf_english", "pdf_chinese", "ask_stripe", "credit_note"]
    readonly_fields = ["state_badge", "month", "total", "tax", "credited", "carried", "at_stripe"]
    exclude = [
        *("state", "frozen", "hosted_url", "used_nanos", "carried_in_nanos", "carried_out_nanos"),
        *("subtotal_minor", "tax_minor", "total_minor", "credited_minor", "stripe_invoice"),
    ]

    @badge(
        _("State"),
        {"finalised": "warning", "paid": "success", "uncollectible": "danger"},
        ordering="state",
    )
    def state_badge(self, invoice: Invoice) -> str:
        """Return what has become of it."""
        return invoice.state

    @admin.display(description=_("Month"), ordering="period__month")
    def month(self, invoice: Invoice) -> str:
        """Return which month it is of."""
        return f"{invoice.period.month:%Y-%m}"

    @admin.display(description=_("Total"), ordering="total_minor")
    def total(self, invoice: Invoice) -> str:
        """Return the total."""
        return coins(invoice.total_minor, invoice.currency)

    @admin.display(description=_("Tax"))
    def tax(self, invoice: Invoice) -> str:
        """Return the tax in it."""
        return coins(invoice.tax_minor, invoice.currency)

    @admin.display(description=_("Corrected by credit notes"))
    def credited(self, invoice: Invoice) -> str:
        """Return what was taken back."""
        return coins(invoice.credited_minor, invoice.currency)

    @admin.display(description=_("Carried to next month"))
    def carried(self, invoice: Invoice) -> str:
        """Return what was less than a coin."""
        return money(invoice.carried_out_nanos, invoice.currency)

    @admin.display(description=_("Invoice at Stripe"))
    def at_stripe(self, invoice: Invoice) -> str:
        """Return a link to Stripe's own page."""
        return dashboard_link("/invoices/", invoice.stripe_invoice, livemode=client.is_live())

    @deed(_("PDF, English"), icon="picture_as_pdf", permission="view")
    def pdf_english(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the invoice as PDF."""
        return invoice_reports.pdf(self._shown(request, object_id), "en")

    @deed(_("PDF, Chinese"), icon="picture_as_pdf", permission="view")
    def pdf_chinese(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the invoice as PDF."""
        return invoice_reports.pdf(self._shown(request, object_id), "zh")

    def _shown(self, request: HttpRequest, object_id: str) -> Invoice:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row: Invoice | None = self.get_object(request, object_id)
        if row is None:
            raise Http404
        return row

    @deed(_("Ask Stripe"), icon="sync")
    def ask_stripe(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let what Stripe says of the invoice take effect."""

        def do(row: Invoice, form: dict[str, Any]) -> StrOrPromise:
            try:
                invoice_payments.refresh(row)
            except (StripeCallError, StaleError) as error:
                raise ConflictError(f"Stripe does not answer: {error}") from error
            row.refresh_from_db()
            return _("The invoice is %(state)s.") % {"state": row.state}

        return self.perform(
            request,
            object_id,
            title=_("Ask Stripe"),
            explain=_("Payments, corrections and the state at Stripe are booked, once each."),
            do=do,
        )

    @deed(_("Credit note"), icon="undo")
    def credit_note(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take a part of the invoice back."""

        def do(row: Invoice, form: dict[str, Any]) -> StrOrPromise:
            nanos = form["amount"]
            if nanos % minor.coin(row.currency):
                raise ConflictError("The amount must be in whole cents.")
            credit_notes.create(
                row,
                minor.to_minor(nanos, row.currency),
                actor=operator(request),
                reason=form["reason"],
                reference=str(form["submission"]),
            )
            return _("The credit note is made. It is booked within seconds.")

        return self.perform(
            request,
            object_id,
            title=_("Credit note"),
            explain=_(
                "Takes off what is owed; of an invoice that is paid it goes back to the card."
            ),
            do=do,
            form_class=CreditNoteForm,
        )
