"""What passes between the site and Stripe: webhooks that came in, operations that went out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin import ReadOnlyAdmin, ReasonForm, badge, deed, operator
from billing import stripe_ops, webhooks
from billing.models import StripeEvent, StripeOp
from billing.stripe import client

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

_DASHBOARD = "https://dashboard.stripe.com"


def dashboard_link(path: str, text: str, *, livemode: bool) -> str:
    """Return a link to Stripe's own page about an object; the fake has none."""
    if not text or client.is_fake():
        return text
    mode = "" if livemode else "/test"
    return format_html('<a href="{}{}{}{}">{}</a>', _DASHBOARD, mode, path, text, text)


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    """What Stripe told us, and what became of it. What it said is not shown: it names people."""

    list_display = ["id", "type", "state_badge", "attempts", "received", "handled", "last_error"]
    list_filter = ["state", "livemode", "type", "received_at"]
    search_fields = ["=id", "=object_id", "=account"]
    search_help_text = _("The id of an event, of what it is about, or of an account.")
    exclude = ["payload"]
    readonly_fields = ["state_badge", "at_stripe"]
    actions_detail = ["retry"]

    @badge(_("State"), {"received": "info", "done": "success", "dead": "danger"}, ordering="state")
    def state_badge(self, event: StripeEvent) -> str:
        """Return the state."""
        return event.state

    @admin.display(description=_("Received (UTC)"), ordering="received_at")
    def received(self, event: StripeEvent) -> str:
        """Return when it came in."""
        return f"{event.received_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description=_("Handled (UTC)"), ordering="handled_at")
    def handled(self, event: StripeEvent) -> str:
        """Return when it took effect."""
        return f"{event.handled_at:%Y-%m-%d %H:%M:%S}" if event.handled_at else ""

    @admin.display(description=_("At Stripe"))
    def at_stripe(self, event: StripeEvent) -> str:
        """Return a link to Stripe's own page."""
        return dashboard_link("/events/", event.pk, livemode=event.livemode)

    @deed(_("Handle again"), icon="replay")
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let a dead event be handled again."""

        def do(row: StripeEvent, form: dict[str, Any]) -> StrOrPromise:
            webhooks.retry(row, actor=operator(request), reason=form["reason"])
            return _("The event is handled again within seconds.")

        return self.perform(
            request,
            object_id,
            title=_("Handle again"),
            explain=_("A dead event is tried again from the beginning. What it did is not undone."),
            do=do,
        )


class OutcomeForm(ReasonForm):
    """What an operator found at Stripe."""

    stripe_id = forms.CharField(
        label=_("What it made"),
        max_length=120,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("The id at Stripe, such as tr_…; empty if there is nothing there."),
    )
    field_order = ["stripe_id", "reason"]


@admin.register(StripeOp)
class StripeOpAdmin(ReadOnlyAdmin):
    """What we asked of Stripe, once per key; `unknown` is asked again until it is known."""

    list_display = [
        "idem_key",
        "state_badge",
        "stripe_id",
        "created",
        "first_sent",
        "finished",
        "last_error",
    ]
    list_filter = ["state", "kind", "created_at"]
    search_fields = ["=idem_key", "=business_key", "=stripe_id"]
    search_help_text = _("A key, the id of what it is for, or the id at Stripe.")
    exclude = ["request_hash"]
    readonly_fields = ["state_badge"]
    actions_detail = ["decide"]

    @badge(
        _("State"),
        {
            "pending": "info",
            "sent": "info",
            "unknown": "warning",
            "ok": "success",
            "rejected": "danger",
        },
        ordering="state",
    )
    def state_badge(self, op: StripeOp) -> str:
        """Return the state."""
        return op.state

    @admin.display(description=_("Opened (UTC)"), ordering="created_at")
    def created(self, op: StripeOp) -> str:
        """Return when it was written down."""
        return f"{op.created_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description=_("First sent (UTC)"), ordering="first_sent_at")
    def first_sent(self, op: StripeOp) -> str:
        """Return when it was sent first: the key is good for 23 hours from then."""
        return f"{op.first_sent_at:%Y-%m-%d %H:%M:%S}" if op.first_sent_at else ""

    @admin.display(description=_("Finished (UTC)"), ordering="finished_at")
    def finished(self, op: StripeOp) -> str:
        """Return when its end was known."""
        return f"{op.finished_at:%Y-%m-%d %H:%M:%S}" if op.finished_at else ""

    @deed(_("Say what happened"), icon="gavel")
    def decide(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End an operation whose outcome only a person could find out."""

        def do(row: StripeOp, form: dict[str, Any]) -> StrOrPromise:
            stripe_ops.decide(
                row, form["stripe_id"], actor=operator(request), reason=form["reason"]
            )
            return _("The outcome is written down.")

        return self.perform(
            request,
            object_id,
            title=_("Say what happened"),
            explain=_(
                "Only for an operation that was sent more than 23 hours ago. Look it up in "
                "Stripe's dashboard first: if you say that nothing is there, it is sent again."
            ),
            do=do,
            form_class=OutcomeForm,
        )
