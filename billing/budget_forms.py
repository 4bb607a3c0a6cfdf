"""Forms of the page of budgets."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiKey, Organization
from billing.api.budgets import MAX_CALLS
from billing.forms import AmountField
from billing.models import SpendLimit, Unit
from billing.templatetags.budgets import UNITS, WINDOWS

_CALLS = re.compile(r"[0-9]{1,13}")


class BudgetForm(forms.Form):
    """A cap: on what, how often, how much."""

    key = forms.ModelChoiceField(
        label=_("For"),
        queryset=ApiKey.objects.none(),
        required=False,
        empty_label=_("The whole organization"),
        widget=forms.Select(attrs={"class": "select"}),
    )
    window = forms.ChoiceField(
        label=_("Window"),
        choices=[(window, _(WINDOWS[window])) for window in SpendLimit.Window.values],
        initial=SpendLimit.Window.DAY,
        widget=forms.Select(attrs={"class": "select"}),
    )
    unit = forms.ChoiceField(
        label=_("Counts"),
        choices=[(unit, _(UNITS[unit])) for unit in Unit.values],
        widget=forms.Select(attrs={"class": "select"}),
    )
    amount = forms.CharField(
        label=_("At most"),
        max_length=20,
        help_text=_("USD such as 12.50, or a number of calls."),
        widget=forms.TextInput(
            attrs={"class": "input num", "inputmode": "decimal", "autocomplete": "off"}
        ),
    )

    def __init__(self, *args: Any, organization: Organization, **options: Any) -> None:
        super().__init__(*args, **options)
        field = self.fields["key"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = ApiKey.objects.visible_to(organization).usable().order_by("name", "pk")

    def clean(self) -> dict[str, Any]:
        """Read the amount in the unit that was chosen: nanos, or calls."""
        data = super().clean() or {}
        text = str(data.get("amount", "")).strip()
        try:
            if data.get("unit") == Unit.CALLS:
                data["amount"] = _calls(text)
            elif text:
                data["amount"] = AmountField().clean(text)
        except ValidationError as error:
            self.add_error("amount", error)
        return data


class RemoveBudgetForm(forms.Form):
    """Which cap to remove."""

    key = forms.ModelChoiceField(queryset=ApiKey.objects.none(), required=False)
    window = forms.ChoiceField(choices=SpendLimit.Window.choices)
    unit = forms.ChoiceField(choices=Unit.choices)

    def __init__(self, *args: Any, organization: Organization, **options: Any) -> None:
        super().__init__(*args, **options)
        field = self.fields["key"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = ApiKey.objects.visible_to(organization)


class LowBalanceForm(forms.Form):
    """Below which balance the owners are told."""

    threshold = AmountField(
        label=_("Tell the owners when the balance is below, in USD"),
        required=False,
        help_text=_("Empty: never. Told once, until the balance has been above again."),
    )


def _calls(text: str) -> int:
    if not _CALLS.fullmatch(text) or int(text) > MAX_CALLS:
        raise ValidationError(gettext("Enter a whole number of calls."))
    return int(text)
