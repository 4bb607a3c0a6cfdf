"""Prices: added, never changed. Here and not in catalog, because amounts are written in dollars."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanWidget,
)

from accounts.admin import ReadOnlyAdmin, RowInline, badge, operator
from billing import price_changes
from billing.admin.organizations import AmountField
from billing.errors import InvalidPriceError
from billing.price_changes import Target
from billing.rating import ALL_BPS
from billing.templatetags.money import money, price_line
from catalog.models import PriceChange, PriceComponent, PriceVersion
from catalog.prices import Tier

# Dimensions times tiers: more than anybody can read.
MAX_TIERS = 24

if TYPE_CHECKING:
    _PriceForm = forms.ModelForm[PriceVersion]
    _ComponentForm = forms.ModelForm[PriceComponent]
    _ComponentFormSet = BaseInlineFormSet[PriceComponent, PriceVersion, forms.ModelForm[Any]]
else:
    _PriceForm = _ComponentForm = forms.ModelForm
    from unfold.forms import PaginationInlineFormSet as _ComponentFormSet


class PriceForm(_PriceForm):
    """A new price of one model, or of something that belongs to no model."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text=_("Written to the audit log, and told to tenants whose price becomes higher."),
    )
    only_propose = forms.BooleanField(
        label=_("Look at the preview first"),
        required=False,
        initial=True,
        widget=UnfoldBooleanWidget,
        help_text=_("The price waits, with what last month would have cost, until it is approved."),
    )

    min_charge_nanos = AmountField(
        label=_("Minimum charge"), lowest=0, initial="0", help_text=_("In US dollars, per run.")
    )

    batch_discount_bps = forms.IntegerField(
        label=_("Discount for batch files"),
        required=False,
        min_value=0,
        max_value=ALL_BPS,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=_("Hundredths of a percent of each row: 5000 is half."),
    )

    class Meta:
        model = PriceVersion
        fields = ["model", "sku", "min_charge_nanos", "batch_discount_bps", "effective_from"]
        labels = {"sku": _("SKU")}
        help_texts = {
            "sku": _("Only for what belongs to no model, such as training.cpu."),
            "effective_from": _("UTC. An instant in the past means now."),
        }

    def clean(self) -> dict[str, Any]:
        """Insist on one thing to price, and never on a date before now."""
        cleaned = super().clean() or self.cleaned_data
        if bool(cleaned.get("model")) == bool(cleaned.get("sku")):
            raise forms.ValidationError(_("Choose a model, or write an SKU: one of the two."))
        cleaned["batch_discount_bps"] = cleaned.get("batch_discount_bps") or 0
        if cleaned["batch_discount_bps"] and cleaned.get("sku"):
            self.add_error("batch_discount_bps", _("Only a model has one."))
        if cleaned.get("effective_from"):
            cleaned["effective_from"] = max(cleaned["effective_from"], timezone.now())
        return cleaned


class ComponentForm(_ComponentForm):
    """What one dimension costs."""

    # Left out, the tier begins with the first unit.
    from_quantity = forms.IntegerField(
        label=_("Above how many"), min_value=0, initial=0, required=False
    )
    amount_nanos = AmountField(lowest=0)
    per_quantity = forms.IntegerField(label=_("For how many"), min_value=1, initial=1)

    class Meta:
        model = PriceComponent
        fields = ["dimension", "from_quantity", "amount_nanos", "per_quantity"]
        labels = {"amount_nanos": _("Amount in US dollars")}

    def clean_from_quantity(self) -> int:
        """Return where the tier begins."""
        return self.cleaned_data["from_quantity"] or 0


class ComponentFormSet(_ComponentFormSet):
    """The components of a price; what a form holds was typed, also where it equals a default."""

    def get_form_kwargs(self, index: int | None) -> dict[str, Any]:
        """Let no form be left empty: the number of forms is the number of components."""
        return {**super().get_form_kwargs(index), "empty_permitted": False}

    def clean(self) -> None:
        """Refuse what cannot be a price: a tier that leaves a gap, nothing that is counted."""
        super().clean()
        target = Target(self.instance.model, self.instance.sku)
        if any(self.errors) or not self.management_form.is_valid():
            return
        if bool(target.model) == bool(target.sku):
            return
        try:
            price_changes.checked(target, self.components())
        except InvalidPriceError as error:
            raise forms.ValidationError(error.message) from error

    def components(self) -> dict[str, list[Tier]]:
        """Return what was typed, as catalog.prices.add takes it."""
        found: dict[str, list[Tier]] = defaultdict(list)
        for row in self.cleaned_data:
            tier = (row["from_quantity"], row["amount_nanos"], row["per_quantity"])
            found[row["dimension"]].append(tier)
        return {name: sorted(tiers) for name, tiers in found.items()}


class ComponentInline(RowInline):
    """The dimensions of a price."""

    model = PriceComponent
    form = ComponentForm
    formset = ComponentFormSet
    extra = 0
    min_num = 1
    ordering = ["pk"]
    max_num = MAX_TIERS
    hide_title = True
    can_delete = False

    def get_formset(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        """Insist on one component: nothing is sold without a price."""
        return super().get_formset(request, obj, validate_min=True, **options)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show amounts in dollars once they are written."""
        return ["dimension", "from_quantity", "amount" if obj else "amount_nanos", "per_quantity"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Show what exists as text."""
        return ["dimension", "from_quantity", "amount", "per_quantity"] if obj else []

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a price stays as it was."""
        return False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let components be written only together with their price."""
        return obj is None

    @admin.display(description=_("Amount"))
    def amount(self, component: PriceComponent) -> str:
        """Return the amount in the currency's major unit."""
        return money(component.amount_nanos)


@admin.register(PriceVersion)
class PriceVersionAdmin(ReadOnlyAdmin):
    """What models and training cost, from when on."""

    form = PriceForm
    inlines = [ComponentInline]
    list_display = ["thing", "line", "state", "effective_from", "created_by"]
    list_filter = [("model", admin.EmptyFieldListFilter), "effective_from"]
    list_select_related = ["model__owner", "created_by"]
    search_fields = ["model__name", "model__owner__slug", "sku"]
    autocomplete_fields = ["model"]
    date_hierarchy = "effective_from"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let operators with the right add a price."""
        return operator(request).has_perm("catalog.add_priceversion")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> Any:
        """Explain how to fill in the form only where there is one."""
        if obj is not None:
            options["form"] = forms.ModelForm
        return super().get_form(request, obj, change, **options)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show who added a price once it exists."""
        if obj is None:
            return [
                *("model", "sku", "min_charge_nanos", "batch_discount_bps", "effective_from"),
                *("reason", "only_propose"),
            ]
        return ["model", "sku", "line", "minimum", "effective_from", "created_by", "created_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Show what exists as text."""
        return ["line", "minimum"] if obj else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceVersion]:
        """Read the components of a page in one query."""
        found: QuerySet[PriceVersion] = super().get_queryset(request)
        return found.prefetch_related("components")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Leave the row to the verb: a price is proposed, and made when it is approved."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Propose what was typed; it is applied at once if nobody has to approve it."""
        price = form.instance
        form.change = price_changes.propose(
            Target(price.model, price.sku),
            formsets[0].components(),
            min_charge_nanos=price.min_charge_nanos,
            batch_discount_bps=price.batch_discount_bps,
            effective_from=price.effective_from,
            reason=form.cleaned_data["reason"],
            actor=operator(request),
            only_propose=form.cleaned_data["only_propose"],
        )
        request._price_change = form.change  # type: ignore[attr-defined]  # read by response_add

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> Any:
        """Say nothing: the verb writes the audit log."""
        return []

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Say nothing: the verb writes the audit log."""

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show what became of the price."""
        change: PriceChange = request._price_change  # type: ignore[attr-defined]  # set above
        if change.price_version is None:
            messages.info(request, _("The price waits to be approved."))
        else:
            messages.success(request, _("The price is added."))
        return redirect("admin:catalog_pricechange_change", change.pk)

    @admin.display(description=_("What"), ordering="model__name")
    def thing(self, price: PriceVersion) -> str:
        """Return the model, or the name of what belongs to none."""
        return price.model.path if price.model else price.sku

    @admin.display(description=_("Price"))
    def line(self, price: PriceVersion) -> str:
        """Return the components in one line."""
        return price_line(price)

    @admin.display(description=_("Minimum charge"))
    def minimum(self, price: PriceVersion) -> str:
        """Return the least a run costs."""
        return money(price.min_charge_nanos)

    @badge(_("State"), {"in effect": "success", "later": "info"})
    def state(self, price: PriceVersion) -> str:
        """Return whether the price has taken effect; the newest that has applies."""
        return "in effect" if price.effective_from <= timezone.now() else "later"
