"""Publishers: their shares, what they earned, their accounts at Stripe and what they were paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin import ReadOnlyAdmin, ReasonForm, badge, deed, operator
from accounts.models import Organization
from billing import connect, minor, payouts, shares, stripe_ops
from billing.admin.asking import AskAdmin, instant_field, text_field
from billing.errors import PayoutError
from billing.models import Earning, Payout, PayoutAccount, ShareVersion
from billing.stripe.errors import StripeCallError
from billing.templatetags.money import money
from catalog.models import MLModel

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

_PAYOUT_COLORS = {
    "pending": "info",
    "sent": "info",
    "paid": "success",
    "failed": "danger",
    "reversed": "warning",
}


class ShareForm(ReasonForm):
    """Whose part it is, and how much."""

    publisher = text_field(
        _("Publisher"), _("An organization's name in addresses; empty: everybody."), required=False
    )
    model = text_field(_("Model"), _("owner/name; empty: all of them."), required=False)
    percent = forms.DecimalField(
        label=_("Publisher's part in percent"),
        min_value=0,
        max_value=100,
        max_digits=5,
        decimal_places=2,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "placeholder": "80"}),
    )
    effective_from = instant_field(_("Applies from"), required=False)
    field_order = ["publisher", "model", "percent", "effective_from", "reason"]

    def clean_publisher(self) -> Organization | None:
        """Return the organization of this name."""
        slug = self.cleaned_data["publisher"].strip()
        found = Organization.objects.filter(slug=slug).first() if slug else None
        if slug and found is None:
            raise ValidationError(_("There is no such organization."))
        return found

    def clean_model(self) -> MLModel | None:
        """Return the model of this name."""
        path = self.cleaned_data["model"].strip()
        owner, _slash, name = path.partition("/")
        found = MLModel.objects.filter(owner__slug=owner, name=name).first() if path else None
        if path and found is None:
            raise ValidationError(_("There is no such model."))
        return found


@admin.register(ShareVersion)
class ShareVersionAdmin(AskAdmin):
    """How charges are divided between publisher and platform, from when on."""

    list_display = ["scope", "part", "effective_from", "created_by", "reason"]
    list_filter = ["effective_from"]
    list_select_related = ["publisher", "model__owner", "created_by"]
    search_fields = ["publisher__slug", "model__name", "model__owner__slug"]
    readonly_fields = ["scope", "part"]
    exclude = ["publisher_bps"]
    ask_form = ShareForm
    ask_title = _("Add a share")
    ask_explain = _(
        "Runs that are admitted from then on are divided by it; those before keep theirs. The "
        "narrowest share applies: a model's, its publisher's, everybody's. It is never changed."
    )
    ask_done = _("The share is added.")

    def ask(self, request: HttpRequest, form: dict[str, Any]) -> Model:
        """Add a share."""
        return shares.add(
            int(form["percent"] * 100),
            actor=operator(request),
            reason=form["reason"],
            publisher=form["publisher"],
            model=form["model"],
            effective_from=form["effective_from"],
        )

    @admin.display(description=_("For"))
    def scope(self, share: ShareVersion) -> str:
        """Return whose runs it divides."""
        if share.model is not None:
            return share.model.path
        return share.publisher.slug if share.publisher else str(_("everybody"))

    @admin.display(description=_("Publisher's part"), ordering="publisher_bps")
    def part(self, share: ShareVersion) -> str:
        """Return the part as a percentage."""
        whole, rest = divmod(share.publisher_bps, 100)
        return f"{whole}.{rest:02d} %"


@admin.register(Earning)
class EarningAdmin(ReadOnlyAdmin):
    """What a publisher earned in one settlement."""

    list_display = ["publisher", "amount", "clawed_back", "state_badge", "created_at"]
    list_filter = [("released_at", admin.EmptyFieldListFilter), "created_at"]
    list_select_related = ["publisher"]
    search_fields = ["publisher__slug"]
    ordering = ["-pk"]
    readonly_fields = ["amount", "clawed_back", "state_badge"]
    exclude = ["amount_nanos", "clawed_back_nanos"]

    @admin.display(description=_("Earned"), ordering="amount_nanos")
    def amount(self, earning: Earning) -> str:
        """Return the publisher's part."""
        return money(earning.amount_nanos)

    @admin.display(description=_("Given back before it was payable"))
    def clawed_back(self, earning: Earning) -> str:
        """Return what refunds took from it."""
        return money(earning.clawed_back_nanos)

    @badge(_("State"), {"accrued": "info", "released": "success"})
    def state_badge(self, earning: Earning) -> str:
        """Return whether it is payable."""
        return "accrued" if earning.released_at is None else "released"


def _asked(act: Any) -> Any:
    """Turn what Stripe answered into what a form can show."""
    try:
        return act()
    except StripeCallError as error:
        raise PayoutError(f"Not known yet, or not possible: {error}. Try again.") from error
    except stripe_ops.OutcomeUnknownError as error:
        raise PayoutError(str(error)) from error


@admin.register(PayoutAccount)
class PayoutAccountAdmin(ReadOnlyAdmin):
    """Publishers' accounts at Stripe Connect, and what would be paid out."""

    list_display = ["organization", "stripe_account", "country", "state_badge", "updated_at"]
    list_filter = ["payouts_enabled", "country"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug", "stripe_account"]
    readonly_fields = ["state_badge", "payable"]
    actions_detail = ["pay_now", "ask_stripe"]

    @badge(_("State"), {"ready": "success", "incomplete": "warning", "stopped": "danger"})
    def state_badge(self, account: PayoutAccount) -> str:
        """Return whether it can be paid."""
        if account.payouts_enabled:
            return "ready"
        return "stopped" if account.disabled_reason else "incomplete"

    @admin.display(description=_("Payable"))
    def payable(self, account: PayoutAccount) -> str:
        """Return what can be paid out."""
        return money(payouts.payable(account.organization))

    @deed(_("Pay now"), icon="payments")
    def pay_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a payout of all that is payable, and send it."""

        def do(account: PayoutAccount, form: dict[str, Any]) -> StrOrPromise:
            organization = account.organization
            _asked(lambda: payouts.require_balance(organization))
            made = payouts.make(organization, actor=operator(request), reason=form["reason"])
            sent = _asked(lambda: payouts.send(made))
            return _("%(amount)s: %(state)s.") % {
                "amount": money(sent.amount_nanos, sent.currency),
                "state": sent.state,
            }

        return self.perform(
            request,
            object_id,
            title=_("Pay now"),
            explain=_(
                "All that is payable is booked as a payout and sent to the account at Stripe, "
                "without waiting for the day of the month."
            ),
            do=do,
        )

    @deed(_("Ask Stripe"), icon="sync")
    def ask_stripe(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask Stripe how the account is."""

        def do(account: PayoutAccount, form: dict[str, Any]) -> StrOrPromise:
            _asked(lambda: connect.refresh(account))
            return _("The account is as Stripe says now.")

        return self.perform(
            request,
            object_id,
            title=_("Ask Stripe"),
            explain=_("What Stripe says about the account is fetched and shown."),
            do=do,
        )


@admin.register(Payout)
class PayoutAdmin(ReadOnlyAdmin):
    """Money that went to publishers."""

    list_display = ["created", "organization", "amount", "state_badge", "stripe_transfer"]
    list_filter = ["state", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug", "=stripe_transfer"]
    date_hierarchy = "created_at"
    readonly_fields = ["amount", "carried", "reversed", "state_badge"]
    exclude = ["amount_nanos", "amount_minor", "carry_nanos", "reversed_minor"]
    actions_detail = ["send_again", "take_back"]

    @admin.display(description=_("Made (UTC)"), ordering="created_at")
    def created(self, payout: Payout) -> str:
        """Return when it was booked."""
        return f"{payout.created_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description=_("Amount"), ordering="amount_nanos")
    def amount(self, payout: Payout) -> str:
        """Return what is paid."""
        return money(payout.amount_nanos, payout.currency)

    @admin.display(description=_("Carried"))
    def carried(self, payout: Payout) -> str:
        """Return what was less than a coin."""
        return money(payout.carry_nanos, payout.currency)

    @admin.display(description=_("Reversed"))
    def reversed(self, payout: Payout) -> str:
        """Return what was taken back at Stripe."""
        return money(minor.to_nanos(payout.reversed_minor, payout.currency), payout.currency)

    @badge(_("State"), _PAYOUT_COLORS, ordering="state")
    def state_badge(self, payout: Payout) -> str:
        """Return what became of it."""
        return payout.state

    def has_send_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to send what is under way."""
        row = Payout.objects.filter(pk=obj, state__in=payouts.OPEN)
        return self.has_operate_permission(request) and row.exists()

    def has_take_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to take back what was paid."""
        row = Payout.objects.filter(pk=obj, state=Payout.State.PAID)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Send again"), icon="send", permission="send")
    def send_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a payout under its key, or find out what became of it."""

        def do(payout: Payout, form: dict[str, Any]) -> StrOrPromise:
            sent = _asked(lambda: payouts.send(payout))
            return _("The payout is %(state)s.") % {"state": sent.state}

        return self.perform(
            request,
            object_id,
            title=_("Send again"),
            explain=_("The same payout, under the same key: it cannot be paid twice."),
            do=do,
        )

    @deed(_("Take back"), icon="undo", permission="take")
    def take_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take back what was paid and has not come back yet."""

        def do(payout: Payout, form: dict[str, Any]) -> StrOrPromise:
            actor, reason = operator(request), form["reason"]
            _asked(lambda: payouts.take_back(payout, actor=actor, reason=reason))
            return _("The payout is taken back; it is payable again.")

        return self.perform(
            request,
            object_id,
            title=_("Take back"),
            explain=_(
                "The transfer is reversed at Stripe, and the amount is payable again. Freeze the "
                "organization if it must not be paid out once more."
            ),
            do=do,
        )
