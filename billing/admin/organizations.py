"""Organizations with their wallets: grant and take credit, freeze.

Registered here and not in accounts: what a wallet holds is billing's to say.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import F, FilteredRelation, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts import limits, organizations
from accounts.admin import ReadOnlyAdmin, ReadOnlyInline, ReasonForm, badge, deed, operator
from accounts.limits import Unit
from accounts.models import Membership, Organization
from billing import credit
from billing.models import Budget, LedgerTransaction, SpendLimit
from billing.money import parse
from billing.templatetags.money import cap, money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# One entry is a slip of the keyboard away from another zero: more needs a second form.
LARGEST_NANOS = 100_000 * 1_000_000_000


class AmountField(forms.CharField):
    """An amount typed as a decimal; cleaned to nanos."""

    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "placeholder": "5.00"})

    def __init__(self, *, lowest: int = 1, largest: int = LARGEST_NANOS, **options: Any) -> None:
        self.lowest, self.largest = lowest, largest
        super().__init__(**options)

    def clean(self, value: Any) -> int | None:
        """Return nanos; None if the field may be empty and is."""
        text = super().clean(value)
        if not text and not self.required:
            return None
        try:
            nanos = parse(text)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        if not self.lowest <= nanos <= self.largest:
            raise ValidationError(
                _("Between %(low)s and %(high)s.")
                % {"low": money(self.lowest), "high": money(self.largest)}
            )
        return nanos


class CreditForm(ReasonForm):
    """How much, and why."""

    amount = AmountField(label=_("Amount"), help_text=_("In US dollars, such as 5.00."))
    field_order = ["amount", "reason"]


class GrantForm(CreditForm):
    """How much, for how long, and why."""

    days = forms.IntegerField(
        label=_("Lapses after days"),
        required=False,
        min_value=1,
        max_value=3650,
        help_text=_("Empty: never. What open runs may need of it lapses after them."),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "numeric"}),
    )
    field_order = ["amount", "days", "reason"]


class RateLimitForm(ReasonForm):
    """How fast an organization may call."""

    unit = forms.ChoiceField(
        label=_("Counts"),
        choices=[
            (Unit.REQUESTS.value, _("Requests per minute")),
            (Unit.ROWS.value, _("Rows per minute")),
            (Unit.CONCURRENCY.value, _("Requests at a time")),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    quota = forms.IntegerField(
        label=_("At most"),
        required=False,
        min_value=1,
        max_value=limits.LARGEST,
        help_text=_("Empty: what the site's settings say for everybody."),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "numeric"}),
    )
    field_order = ["unit", "quota", "reason"]


class MemberInline(ReadOnlyInline):
    """Who belongs to an organization."""

    model = Membership
    fields = ["user", "role", "created_at"]
    readonly_fields = ["created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Read the people in the same query."""
        found: QuerySet[Membership] = super().get_queryset(request)
        return found.select_related("user").order_by("pk")


class LimitInline(ReadOnlyInline):
    """What an organization or its keys may spend per window."""

    model = SpendLimit
    fields = ["window", "unit", "api_key", "limit", "created_at"]
    readonly_fields = ["limit", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[SpendLimit]:
        """Read the keys in the same query."""
        found: QuerySet[SpendLimit] = super().get_queryset(request)
        return found.select_related("api_key").order_by("pk")

    @admin.display(description=_("Amount"))
    def limit(self, rule: SpendLimit) -> str:
        """Return the limit in its unit."""
        return cap(rule.amount, rule.unit)


@admin.register(Organization)
class OrganizationAdmin(ReadOnlyAdmin):
    """Tenants, what they have, and the buttons that change it."""

    list_display = ["slug", "name", "available", "held", "posted", "state", "created_at"]
    list_filter = ["is_frozen", "is_personal", "created_at"]
    search_fields = ["slug", "name", "memberships__user__email"]
    date_hierarchy = "created_at"
    inlines = [MemberInline, LimitInline]
    actions_detail = ["grant_credit", "take_credit", "set_rate_limit", "freeze", "unfreeze"]
    fieldsets = [
        (None, {"fields": ["slug", "name", "is_personal", "state", "created_at"]}),
        (_("Wallet"), {"fields": ["available", "held", "posted", "capacity"]}),
        (
            _("Limits"),
            {
                "fields": [unit.column for unit in Unit],
                "description": _("Empty: what the site's settings say for everybody."),
            },
        ),
    ]
    readonly_fields = ["state", "available", "held", "posted", "capacity"]

    def has_freeze_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to freeze who is not frozen."""
        row = Organization.objects.filter(pk=obj, is_frozen=False)
        return self.has_operate_permission(request) and row.exists()

    def has_unfreeze_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to unfreeze who is frozen."""
        row = Organization.objects.filter(pk=obj, is_frozen=True)
        return self.has_operate_permission(request) and row.exists()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        """Read each wallet in the same query."""
        found: QuerySet[Organization] = super().get_queryset(request)
        funds = FilteredRelation("budgets", condition=Q(budgets__lock_rank=Budget.Rank.WALLET))
        return found.annotate(funds=funds).annotate(
            capacity_nanos=F("funds__capacity"),
            held_nanos=F("funds__held"),
            posted_nanos=F("funds__posted"),
            available_nanos=F("funds__capacity") - F("funds__posted") - F("funds__held"),
        )

    @admin.display(description=_("Available"), ordering="available_nanos")
    def available(self, row: Any) -> str:
        """Return what can still be spent."""
        return money(row.available_nanos or 0)

    @admin.display(description=_("Held"), ordering="held_nanos")
    def held(self, row: Any) -> str:
        """Return what is set aside for runs that are not settled."""
        return money(row.held_nanos or 0)

    @admin.display(description=_("Spent"), ordering="posted_nanos")
    def posted(self, row: Any) -> str:
        """Return what was spent."""
        return money(row.posted_nanos or 0)

    @admin.display(description=_("Credit ever given"))
    def capacity(self, row: Any) -> str:
        """Return what was given less what was taken back."""
        return money(row.capacity_nanos or 0)

    @badge(_("State"), {"active": "success", "frozen": "danger"}, ordering="is_frozen")
    def state(self, row: Organization) -> str:
        """Return whether the organization may spend."""
        return "frozen" if row.is_frozen else "active"

    @deed(_("Grant credit"), icon="add_card")
    def grant_credit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give credit: a ledger transaction, once per form."""

        def do(row: Organization, form: dict[str, Any]) -> StrOrPromise:
            days = form["days"]
            booked = credit.grant(
                row,
                form["amount"],
                external_ref=f"console:{row.pk}:{form['submission']}",
                reason=form["reason"],
                actor=operator(request),
                expires_at=timezone.now() + timedelta(days=days) if days else None,
            )
            return _told(booked, _("%(amount)s granted."))

        return self.perform(
            request,
            object_id,
            title=_("Grant credit"),
            explain=_("The organization can spend the amount at once. It is booked in the ledger."),
            do=do,
            form_class=GrantForm,
        )

    @deed(_("Take credit"), icon="credit_card_off")
    def take_credit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take credit back: a ledger transaction, once per form."""

        def do(row: Organization, form: dict[str, Any]) -> StrOrPromise:
            booked = credit.take(
                row,
                form["amount"],
                external_ref=f"console:{row.pk}:{form['submission']}",
                reason=form["reason"],
                actor=operator(request),
            )
            return _told(booked, _("%(amount)s taken back."))

        return self.perform(
            request,
            object_id,
            title=_("Take credit"),
            explain=_(
                "The balance falls at once, below zero if it must; nothing more starts then."
            ),
            do=do,
            form_class=CreditForm,
        )

    @deed(_("Set a limit"), icon="speed")
    def set_rate_limit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Set how fast the organization may call."""

        def do(row: Organization, form: dict[str, Any]) -> StrOrPromise:
            changed = limits.set_of_organization(
                row,
                {Unit(form["unit"]): form["quota"]},
                actor=operator(request),
                reason=form["reason"],
            )
            return _("The limit binds within five seconds.") if changed else _("Nothing to change.")

        return self.perform(
            request,
            object_id,
            title=_("Set a limit"),
            explain=_("All keys of the organization together. Refused calls get 429 and are free."),
            do=do,
            form_class=RateLimitForm,
        )

    @deed(_("Freeze"), icon="ac_unit", permission="freeze")
    def freeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Stop the organization from starting what costs money."""
        return self._set_frozen(
            request,
            object_id,
            frozen=True,
            title=_("Freeze"),
            explain=_(
                "New calls and trainings are refused. What runs already ends and is charged."
            ),
        )

    @deed(_("Unfreeze"), icon="sunny", permission="unfreeze")
    def unfreeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let the organization spend again."""
        return self._set_frozen(
            request,
            object_id,
            frozen=False,
            title=_("Unfreeze"),
            explain=_("The organization can start calls and trainings again."),
        )

    def _set_frozen(
        self,
        request: HttpRequest,
        object_id: str,
        *,
        frozen: bool,
        title: StrOrPromise,
        explain: StrOrPromise,
    ) -> HttpResponse:
        def do(row: Organization, form: dict[str, Any]) -> StrOrPromise:
            actor = operator(request)
            changed = organizations.set_frozen(row, frozen, actor=actor, reason=form["reason"])
            if not changed:
                return _("Nothing to change.")
            return _("The organization is frozen.") if frozen else _("The organization is active.")

        return self.perform(request, object_id, title=title, explain=explain, do=do)


def _told(booked: LedgerTransaction, text: StrOrPromise) -> str:
    """Say what was booked: of a form sent twice, what the first one booked."""
    amount = max(entry.amount_nanos for entry in booked.entries.all())
    return str(text) % {"amount": money(amount)}
