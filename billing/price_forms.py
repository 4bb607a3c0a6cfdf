"""Forms of the console's price pages."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django import forms
from django.forms import BaseFormSet, formset_factory
from django.utils.translation import gettext_lazy as _

from billing.errors import InvalidPriceError
from billing.forms import AmountField
from billing.price_changes import Target, checked
from billing.templatetags.money import dimension_name
from catalog.models import PriceComponent, PriceVersion
from catalog.prices import Tier

_EMPTY_ROWS = 2
_MAX_ROWS = 24
_NUMBER = {"class": "input num", "inputmode": "numeric", "autocomplete": "off"}


class PriceProposalForm(forms.Form):
    """What a price is besides its components."""

    minimum = AmountField(label=_("Minimum charge in USD"), initial=0, help_text=_("Per run."))
    batch_discount = forms.DecimalField(
        label=_("Discount for batch files, percent"),
        required=False,
        min_value=0,
        max_value=100,
        decimal_places=2,
        help_text=_("Of each row of a file."),
        widget=forms.TextInput(attrs={"class": "input num", "inputmode": "decimal"}),
    )
    effective_on = forms.DateField(
        label=_("Begins on"),
        required=False,
        help_text=_("UTC. Empty: as soon as may be."),
        widget=forms.DateInput(attrs={"class": "input", "type": "date"}, format="%Y-%m-%d"),
    )
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=500,
        help_text=_("Told to tenants whose price becomes higher."),
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
    )

    def clean_batch_discount(self) -> int:
        """Return the discount in hundredths of a percent."""
        return int((self.cleaned_data["batch_discount"] or 0) * 100)


class TierForm(forms.Form):
    """One dimension, or one tier of it; a row without a dimension is left out."""

    dimension = forms.ChoiceField(
        label=_("What is counted"),
        required=False,
        choices=[
            ("", "–"),
            *((name, dimension_name(name)) for name in PriceComponent.Dimension.values),
        ],
        widget=forms.Select(attrs={"class": "select"}),
    )
    above = forms.IntegerField(
        label=_("Above"),
        required=False,
        min_value=0,
        max_value=10**12,
        widget=forms.TextInput(attrs=_NUMBER),
    )
    amount = AmountField(label=_("Amount in USD"), required=False)
    per = forms.IntegerField(
        label=_("For how many"),
        required=False,
        min_value=1,
        max_value=10**12,
        widget=forms.TextInput(attrs=_NUMBER),
    )

    def clean(self) -> dict[str, Any]:
        """Insist on an amount where something is counted."""
        data = super().clean() or {}
        if data.get("dimension") and data.get("amount") is None and "amount" not in self.errors:
            self.add_error("amount", _("Enter an amount such as 12.50."))
        return data


if TYPE_CHECKING:
    _TierFormSet = BaseFormSet[TierForm]
else:
    _TierFormSet = BaseFormSet


class TierFormSet(_TierFormSet):
    """The components of a price of one model."""

    target: Target

    def clean(self) -> None:
        """Refuse what cannot be a price of the model."""
        if any(self.errors) or not self.management_form.is_valid():
            return
        try:
            checked(self.target, self.components())
        except InvalidPriceError as error:
            raise forms.ValidationError(error.message) from error

    def components(self) -> dict[str, list[Tier]]:
        """Return what was typed, as catalog.prices.add takes it."""
        found: dict[str, list[Tier]] = defaultdict(list)
        for row in self.cleaned_data:
            if row.get("dimension"):
                tier = (row["above"] or 0, row["amount"], row["per"] or 1)
                found[row["dimension"]].append(tier)
        return {name: sorted(tiers) for name, tiers in found.items()}


_FORMSET = formset_factory(
    TierForm, formset=TierFormSet, extra=_EMPTY_ROWS, max_num=_MAX_ROWS, absolute_max=_MAX_ROWS
)


def tiers(target: Target, price: PriceVersion | None, data: Any = None) -> TierFormSet:
    """Return the rows of a form: those of the price that applies, and empty ones."""
    known = price.components.all() if price else []
    made: Any = _FORMSET(
        data,
        prefix="tiers",
        initial=[
            {
                "dimension": item.dimension,
                "above": item.from_quantity,
                "amount": item.amount_nanos,
                "per": item.per_quantity,
            }
            for item in known
        ],
    )
    made.target = target
    found: TierFormSet = made
    return found
