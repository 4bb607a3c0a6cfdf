"""Promotional credit, redeem codes, and who buys credit automatically."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.admin import ConsoleAdmin, ReadOnlyAdmin, badge, deed, operator
from billing import promotions, reload
from billing.admin.organizations import AmountField
from billing.models import AutoReload, CreditGrant, RedeemCode
from billing.templatetags.money import money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    _CodeForm = forms.ModelForm[RedeemCode]
else:
    _CodeForm = forms.ModelForm


@admin.register(CreditGrant)
class CreditGrantAdmin(ReadOnlyAdmin):
    """Promotional credit: what was given, what is left, and until when."""

    list_display = ["id", "organization", "given", "left", "reason", "expires_at", "created_at"]
    list_filter = ["expires_at", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug", "reason"]
    ordering = ["-pk"]
    exclude = ["amount_nanos", "remaining_nanos"]
    readonly_fields = ["given", "left"]

    @admin.display(description=_("Given"), ordering="amount_nanos")
    def given(self, row: CreditGrant) -> str:
        """Return how much it was."""
        return money(row.amount_nanos)

    @admin.display(description=_("Left"), ordering="remaining_nanos")
    def left(self, row: CreditGrant) -> str:
        """Return how much is left."""
        return money(row.remaining_nanos)


class RedeemCodeForm(_CodeForm):
    """What a new code gives, to how many, until when."""

    amount = AmountField(label=_("Credit amount"), help_text=_("What each organization gets."))

    class Meta:
        model = RedeemCode
        fields: ClassVar[list[str]] = ["max_redemptions", "expires_at", "credit_days", "note"]
        widgets: ClassVar[dict[str, forms.Widget]] = {
            "max_redemptions": UnfoldAdminIntegerFieldWidget(),
            "credit_days": UnfoldAdminIntegerFieldWidget(),
            "note": UnfoldAdminTextInputWidget(),
        }
        field_classes: ClassVar[dict[str, type[forms.Field]]] = {
            "expires_at": forms.SplitDateTimeField
        }
        help_texts: ClassVar[dict[str, StrOrPromise]] = {
            "max_redemptions": _("How many organizations may redeem it, each once."),
            "expires_at": _("Until when it can be redeemed; empty: for ever."),
            "credit_days": _("How long the credit lasts from then on; empty: for ever."),
        }

    expires_at = forms.SplitDateTimeField(
        label=_("Expires"), required=False, widget=UnfoldAdminSplitDateTimeWidget()
    )


@admin.register(RedeemCode)
class RedeemCodeAdmin(ConsoleAdmin):
    """Codes that give promotional credit. A code is shown once, when it is made."""

    list_display = ["code", "credit", "redeemed", "expires_at", "state", "note", "created_by"]
    list_filter = ["is_disabled", "expires_at"]
    list_select_related = ["created_by"]
    search_fields = ["last4", "note"]
    actions_detail = ["disable"]
    exclude = ["digest", "amount_nanos"]
    readonly_fields = ["credit", "redeemed", "state"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: what a code promises stays as it was."""
        return False

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> Any:
        """Ask for a new code's fields."""
        return RedeemCodeForm if obj is None else super().get_form(request, obj, change, **options)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show what was promised, or ask for it."""
        if obj is None:
            return ["amount", *RedeemCodeForm.Meta.fields]
        shown = ["last4", "credit", "redeemed", "max_redemptions", "expires_at", "credit_days"]
        return [*shown, "state", "note", "created_by", "created_at"]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make the code; its text lives only as long as this answer."""
        given = form.cleaned_data
        made, text = promotions.make_code(
            given["amount"],
            actor=operator(request),
            **{name: given[name] for name in RedeemCodeForm.Meta.fields},
        )
        obj.__dict__.update(made.__dict__)
        obj.text = text

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the code once."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("Redeem code"),
            "code": obj.text,
            "row": obj,
            "back": self.url_of(obj),
            "opts": self.opts,
        }
        answer = TemplateResponse(request, "admin/redeem_code.html", context)
        add_never_cache_headers(answer)
        return answer

    @admin.display(description=_("Code"), ordering="pk")
    def code(self, row: RedeemCode) -> str:
        """Return what is known of the code: its end."""
        return f"…{row.last4}"

    @admin.display(description=_("Credit amount"), ordering="amount_nanos")
    def credit(self, row: RedeemCode) -> str:
        """Return what each organization gets."""
        return money(row.amount_nanos)

    @admin.display(description=_("Redeemed"), ordering="redemptions")
    def redeemed(self, row: RedeemCode) -> str:
        """Return how often, of how many."""
        return f"{row.redemptions} / {row.max_redemptions}"

    @badge(_("State"), {"open": "success", "used up": "info", "disabled": "danger"})
    def state(self, row: RedeemCode) -> str:
        """Return whether it can be redeemed."""
        if row.is_disabled:
            return "disabled"
        return "used up" if row.redemptions >= row.max_redemptions else "open"

    @deed(_("Disable"), icon="block")
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let a code be redeemed no more."""

        def do(row: RedeemCode, form: dict[str, Any]) -> StrOrPromise:
            promotions.disable(row, actor=operator(request), reason=form["reason"])
            return _("The code is disabled.")

        return self.perform(
            request,
            object_id,
            title=_("Disable"),
            explain=_("Nobody can redeem the code any more. Credit that it gave stays."),
            do=do,
        )


@admin.register(AutoReload)
class AutoReloadAdmin(ReadOnlyAdmin):
    """Who buys credit automatically, and why not, if it is paused."""

    list_display = ["organization", "state", "threshold", "amount", "monthly_limit", "attempts"]
    list_filter = ["is_enabled"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug"]
    exclude = ["threshold_nanos", "amount_nanos", "monthly_limit_nanos"]
    readonly_fields = ["state", "threshold", "amount", "monthly_limit", "this_month"]
    actions_detail = ["pause"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AutoReload]:
        """List the newest settings first."""
        found: QuerySet[AutoReload] = super().get_queryset(request)
        return found.order_by("-updated_at")

    @badge(_("State"), {"on": "success", "paused": "danger", "off": "info"})
    def state(self, row: AutoReload) -> str:
        """Return whether it buys."""
        if not row.is_enabled:
            return "off"
        return "paused" if row.paused_reason else "on"

    @admin.display(description=_("Below"), ordering="threshold_nanos")
    def threshold(self, row: AutoReload) -> str:
        """Return the balance below which it buys."""
        return money(row.threshold_nanos)

    @admin.display(description=_("Buys"), ordering="amount_nanos")
    def amount(self, row: AutoReload) -> str:
        """Return how much it buys at once."""
        return money(row.amount_nanos)

    @admin.display(description=_("Per month at most"), ordering="monthly_limit_nanos")
    def monthly_limit(self, row: AutoReload) -> str:
        """Return how much it buys per month."""
        return money(row.monthly_limit_nanos)

    @admin.display(description=_("This month"))
    def this_month(self, row: AutoReload) -> str:
        """Return what it has bought this month."""
        return money(reload.spent_this_month(row.organization))

    @deed(_("Pause"), icon="pause")
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let it buy nothing until its owner saves the settings again."""

        def do(row: AutoReload, form: dict[str, Any]) -> StrOrPromise:
            reload.pause(row, actor=operator(request), reason=form["reason"])
            return _("Automatic top-ups are paused.")

        return self.perform(
            request,
            object_id,
            title=_("Pause"),
            explain=_("Nothing is charged until its owner saves the settings again."),
            do=do,
        )
