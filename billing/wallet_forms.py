"""Forms of the wallet: buying credit, automatic top-ups, codes, refunds."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from billing import minor
from billing.forms import AmountField
from billing.models import AutoReload
from billing.money import NANOS
from billing.templatetags.money import money

PRESETS = (10 * NANOS, 25 * NANOS, 50 * NANOS, 100 * NANOS)


class TopUpAmountField(AmountField):
    """An amount that can be bought."""

    def clean(self, value: Any) -> Any:
        """Return nanos within the site's bounds, in whole cents."""
        nanos = super().clean(value)
        low, high = settings.TOP_UP_MIN_NANOS, settings.TOP_UP_MAX_NANOS
        if nanos is None:
            return None
        if not low <= nanos <= high or nanos % minor.coin(settings.CURRENCY):
            raise forms.ValidationError(
                gettext("Enter an amount from {low} to {high}, in whole cents.").format(
                    low=money(low), high=money(high)
                )
            )
        return nanos


class TopUpForm(forms.Form):
    """How much to buy: a preset button, or an amount."""

    # One per form shown: a double click opens one payment page.
    submission = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)
    preset = forms.ChoiceField(
        choices=[(str(nanos // NANOS), str(nanos // NANOS)) for nanos in PRESETS], required=False
    )
    amount = TopUpAmountField(label=_("Another amount in USD"), required=False)
    save_card = forms.BooleanField(
        label=_("Save the card for automatic top-ups"),
        required=False,
        widget=forms.CheckboxInput(attrs={"class": "checkbox checkbox-sm"}),
    )

    def clean(self) -> dict[str, Any]:
        """Take the preset that was pressed, else the amount that was typed."""
        data = super().clean() or {}
        if preset := data.get("preset"):
            data["amount"] = int(preset) * NANOS
            self.errors.pop("amount", None)
        elif "amount" in data and data["amount"] is None:
            self.add_error("amount", gettext("Enter an amount."))
        return data


def presets() -> list[dict[str, Any]]:
    """Return the amounts that are offered on this site."""
    low, high = settings.TOP_UP_MIN_NANOS, settings.TOP_UP_MAX_NANOS
    return [{"value": n // NANOS, "nanos": n} for n in PRESETS if low <= n <= high]


class ReloadForm(forms.Form):
    """When credit is bought by itself."""

    is_enabled = forms.BooleanField(
        label=_("Top up automatically"),
        required=False,
        widget=forms.CheckboxInput(attrs={"class": "checkbox checkbox-sm"}),
    )
    threshold_nanos = AmountField(
        label=_("Balance below, in USD"),
        help_text=_("What is held for runs does not count as balance."),
    )
    amount_nanos = TopUpAmountField(label=_("Buy, in USD"))
    monthly_limit_nanos = AmountField(
        label=_("At most per month, in USD"), help_text=_("Calendar months in UTC.")
    )

    @classmethod
    def of(cls, chosen: AutoReload | None) -> ReloadForm:
        """Return the form as it was last saved, or with amounts to begin with."""
        names = ("is_enabled", "threshold_nanos", "amount_nanos", "monthly_limit_nanos")
        first = (False, 5 * NANOS, max(25 * NANOS, settings.TOP_UP_MIN_NANOS), 200 * NANOS)
        values = zip(names, first, strict=True)
        return cls(initial={name: getattr(chosen, name, value) for name, value in values})

    def clean(self) -> dict[str, Any]:
        """Refuse a limit that not even one top-up fits into."""
        data = super().clean() or {}
        amount, limit = data.get("amount_nanos"), data.get("monthly_limit_nanos")
        if amount and limit is not None and limit < amount:
            self.add_error("monthly_limit_nanos", gettext("Less than one top-up."))
        return data


class RedeemForm(forms.Form):
    """A redeem code."""

    code = forms.CharField(
        label=_("Code"),
        max_length=200,
        widget=forms.TextInput(
            attrs={"class": "input mono", "autocomplete": "off", "spellcheck": "false"}
        ),
    )


class RefundForm(forms.Form):
    """How much of a top-up goes back to its card."""

    submission = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)
    amount = AmountField(label=_("Amount in USD"))
