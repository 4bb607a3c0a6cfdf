"""The period that a page of the console is about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

DEFAULT_DAYS = 30


class PeriodForm(forms.Form):
    """From a day to another, UTC; a plain visit shows the period it means.

    Args:
        data: What the address asks for.
    """

    # As many as the page can be about at once; None: all of them.
    max_days: int | None = None

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

    def __init__(self, data: Mapping[str, Any]) -> None:
        today = timezone.now().astimezone(UTC).date()
        period = {"start": _first(today), "end": today}
        super().__init__({**period, **{name: data[name] for name in data}})

    def clean(self) -> dict[str, Any]:
        """Refuse a period that ends before it begins."""
        data = super().clean() or {}
        start, end = data.get("start"), data.get("end")
        if start and end and end < start:
            self.add_error("end", gettext("The period ends before it begins."))
        return data

    @property
    def days(self) -> tuple[date, date]:
        """First and last day of the period."""
        data: dict[str, Any] = self.cleaned_data if self.is_valid() else {}
        last = data.get("end") or timezone.now().astimezone(UTC).date()
        first = data.get("start") or _first(last)
        if self.max_days is not None:
            first = max(first, last - timedelta(days=self.max_days - 1))
        return first, last


def _first(last: date) -> date:
    return last - timedelta(days=DEFAULT_DAYS - 1)
