"""Prepaid money: top-ups, refunds of unspent credit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, ReadOnlyInline, badge, deed, operator
from accounts.errors import ConflictError
from billing import minor, payments, refunds
from billing.admin.disputes import DisputeInline
from billing.admin.organizations import CreditForm
from billing.admin.stripe import dashboard_link
from billing.models import CreditRefund, TopUp
from billing.staleness import StaleError
from billing.stripe import client
from billing.stripe.errors import StripeCallError
from billing.templatetags.money import money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

_TOP_UP_STATES = {
    "pending": "info",
    "credited": "success",
    "failed": "danger",
    "expired": "warning",
}
_REFUND_STATES = {"pending": "info", "refunded": "success", "failed": "danger"}


class RefundInline(ReadOnlyInline):
    """What went back to the card."""

    model = CreditRefund
    fields = ["created_at", "state", "amount", "reason", "failure"]
    readonly_fields = ["created_at", "amount"]

    @admin.display(description=_("Credit amount"))
    def amount(self, refund: CreditRefund) -> str:
        """Return how much credit went."""
        return money(refund.amount_nanos)


@admin.register(TopUp)
class TopUpAdmin(ReadOnlyAdmin):
    """Credit bought with a card. A failure that says `mismatch`: what was paid was not ordered."""

    list_display = [
        "id",
        "organization",
        "kind",
        "state_badge",
        "credit",
        "refunded",
        "clawed_back",
        "failure",
        "created_at",
    ]
    list_filter = ["state", "kind", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["=id", "organization__slug", "=checkout_session", "=payment_intent", "=charge"]
    search_help_text = _("An id of ours or of Stripe's, or an organization.")
    date_hierarchy = "created_at"
    inlines = [RefundInline, DisputeInline]
    exclude = ["credit_nanos", "refunded_nanos", "clawed_back_nanos", "charge_minor", "tax_minor"]
    readonly_fields = [
        "state_badge",
        "credit",
        "tax",
        "refunded",
        "clawed_back",
        "refundable",
        "at_stripe",
    ]
    actions_detail = ["refund", "look_again"]

    @badge(_("State"), _TOP_UP_STATES, ordering="state")
    def state_badge(self, row: TopUp) -> str:
        """Return the state."""
        return row.state

    @admin.display(description=_("Credit amount"), ordering="credit_nanos")
    def credit(self, row: TopUp) -> str:
        """Return how much credit was bought."""
        return money(row.credit_nanos, row.currency)

    @admin.display(description=_("Tax"))
    def tax(self, row: TopUp) -> str:
        """Return what was paid on top."""
        return money(minor.to_nanos(row.tax_minor, row.currency), row.currency)

    @admin.display(description=_("Refunded"), ordering="refunded_nanos")
    def refunded(self, row: TopUp) -> str:
        """Return what the site gave back."""
        return money(row.refunded_nanos, row.currency)

    @admin.display(description=_("Clawed back"), ordering="clawed_back_nanos")
    def clawed_back(self, row: TopUp) -> str:
        """Return what was taken back for refunds at Stripe and disputes."""
        return money(row.clawed_back_nanos, row.currency)

    @admin.display(description=_("Can be refunded now"))
    def refundable(self, row: TopUp) -> str:
        """Return what is unspent of it."""
        return money(refunds.refundable(row), row.currency)

    @admin.display(description=_("At Stripe"))
    def at_stripe(self, row: TopUp) -> str:
        """Return a link to Stripe's own page."""
        return dashboard_link(
            f"/payments/{row.payment_intent}", row.payment_intent, livemode=client.is_live()
        )

    @deed(_("Refund"), icon="undo")
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give unspent credit back to its card, once per form."""

        def do(row: TopUp, form: dict[str, Any]) -> StrOrPromise:
            made = refunds.start(
                row,
                form["amount"],
                number=form["submission"],
                reason=form["reason"],
                actor=operator(request),
            )
            if made.state == CreditRefund.State.FAILED:
                raise ConflictError(f"Stripe refused ({made.failure}). The credit is back.")
            told = _("%(amount)s goes back to the card.")
            return str(told) % {"amount": money(made.amount_nanos)}

        return self.perform(
            request,
            object_id,
            title=_("Refund"),
            explain=_(
                "The credit leaves the wallet at once, and comes back if the refund fails. "
                "Only unspent credit can be refunded."
            ),
            do=do,
            form_class=CreditForm,
        )

    @deed(_("Look again"), icon="sync")
    def look_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Read the payment at Stripe and let it take effect."""

        def do(row: TopUp, form: dict[str, Any]) -> StrOrPromise:
            try:
                found = payments.sync(lambda: _facts(row))
            except (StripeCallError, StaleError) as error:
                raise ConflictError(f"Stripe did not answer: {error}") from error
            if found is None:
                raise ConflictError("There is no payment at Stripe.")
            return str(_("It is %(state)s.")) % {"state": found.state}

        return self.perform(
            request,
            object_id,
            title=_("Look again"),
            explain=_("Reads the payment at Stripe. What was booked already is not booked again."),
            do=do,
        )


def _facts(top_up: TopUp) -> payments.Facts | None:
    if top_up.payment_intent:
        return payments.of_intent(top_up.payment_intent, is_thorough=True)
    return payments.of_session(top_up.checkout_session) if top_up.checkout_session else None


@admin.register(CreditRefund)
class CreditRefundAdmin(ReadOnlyAdmin):
    """Unspent credit that went back to cards."""

    list_display = ["id", "organization", "state_badge", "amount", "actor", "failure", "created_at"]
    list_filter = ["state", "created_at"]
    list_select_related = ["top_up__organization", "actor"]
    search_fields = ["=id", "=stripe_refund", "top_up__organization__slug"]
    date_hierarchy = "created_at"
    exclude = ["amount_nanos", "amount_minor"]
    readonly_fields = ["state_badge", "amount", "sent"]

    @admin.display(description=_("Organization"), ordering="top_up__organization__slug")
    def organization(self, row: CreditRefund) -> str:
        """Return whose credit it was."""
        return row.top_up.organization.slug

    @badge(_("State"), _REFUND_STATES, ordering="state")
    def state_badge(self, row: CreditRefund) -> str:
        """Return the state."""
        return row.state

    @admin.display(description=_("Credit amount"), ordering="amount_nanos")
    def amount(self, row: CreditRefund) -> str:
        """Return how much credit went."""
        return money(row.amount_nanos)

    @admin.display(description=_("To the card"))
    def sent(self, row: CreditRefund) -> str:
        """Return what the card gets, with tax."""
        return money(minor.to_nanos(row.amount_minor, row.top_up.currency))
