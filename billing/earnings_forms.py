"""Forms of the pages for publishers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from billing import connect
from catalog.models import MLModel

DEFAULT_DAYS = 30
MAX_DAYS = 366


class EarningsFilterForm(forms.Form):
    """Which earnings the page shows; everything is in the address."""

    model = forms.ChoiceField(
        label=_("Model"), required=False, widget=forms.Select(attrs={"class": "select"})
    )
    start = forms.DateField(
        label=_("From"),
        required=False,
        widget=forms.DateInput(attrs={"class": "input", "type": "date"}, format="%Y-%m-%d"),
    )
    end = forms.DateField(
        label=_("To"),
        required=False,
        widget=forms.DateInput(attrs={"class": "input", "type": "date"}, format="%Y-%m-%d"),
    )

    def __init__(self, data: Mapping[str, Any], *, organization: Organization) -> None:
        today = timezone.now().astimezone(UTC).date()
        period = {"start": today - timedelta(days=DEFAULT_DAYS - 1), "end": today}
        super().__init__({**period, **{name: data[name] for name in data}})
        names = MLModel.objects.filter(owner=organization).order_by("name")
        choices = [(name, name) for name in names.values_list("name", flat=True)]
        self.fields["model"].choices = [("", _("All")), *choices]  # type: ignore[attr-defined]  # of a choice field

    def clean(self) -> dict[str, Any]:
        """Refuse a period that ends before it begins."""
        data = super().clean() or {}
        start, end = data.get("start"), data.get("end")
        if start and end and end < start:
            self.add_error("end", gettext("The period ends before it begins."))
        return data

    @property
    def days(self) -> tuple[date, date]:
        """First and last day of the period, UTC: at most a year."""
        data: dict[str, Any] = self.cleaned_data if self.is_valid() else {}
        last = data.get("end") or timezone.now().astimezone(UTC).date()
        first = data.get("start") or last - timedelta(days=DEFAULT_DAYS - 1)
        return max(first, last - timedelta(days=MAX_DAYS - 1)), last


class CountryForm(forms.Form):
    """Where a publisher is at home."""

    country = forms.ChoiceField(
        label=_("Country"),
        choices=[(code, code) for code in connect.COUNTRIES],
        initial="US",
        widget=forms.Select(attrs={"class": "select"}),
        help_text=_("Of the person or company that is paid; it cannot be changed later."),
    )
