"""Forms of the pages for publishers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from billing import connect
from billing.period_forms import PeriodForm
from catalog.models import MLModel


class EarningsFilterForm(PeriodForm):
    """Which earnings the page shows; everything is in the address."""

    max_days = 366
    model = forms.ChoiceField(
        label=_("Model"), required=False, widget=forms.Select(attrs={"class": "select"})
    )

    def __init__(self, data: Mapping[str, Any], *, organization: Organization) -> None:
        super().__init__(data)
        names = MLModel.objects.filter(owner=organization).order_by("name")
        choices = [(name, name) for name in names.values_list("name", flat=True)]
        self.fields["model"].choices = [("", _("All")), *choices]  # type: ignore[attr-defined]  # of a choice field


class CountryForm(forms.Form):
    """Where a publisher is at home."""

    country = forms.ChoiceField(
        label=_("Country"),
        choices=[(code, code) for code in connect.COUNTRIES],
        initial="US",
        widget=forms.Select(attrs={"class": "select"}),
        help_text=_("Of the person or company that is paid; it cannot be changed later."),
    )
