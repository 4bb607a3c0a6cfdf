"""The fields in which limits are typed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.limits import LARGEST, Unit
from accounts.models.limits import Limited


class _LimitField(forms.IntegerField):
    """A limit; empty: none of its own."""

    def __init__(self, **options: Any) -> None:
        widget = forms.NumberInput(
            attrs={"class": "input num", "inputmode": "numeric", "autocomplete": "off"}
        )
        super().__init__(required=False, min_value=1, max_value=LARGEST, widget=widget, **options)


class LimitFields(forms.Form):
    """How fast a key may call."""

    requests_per_minute = _LimitField(label=_("Requests per minute"))
    rows_per_minute = _LimitField(label=_("Rows per minute"))
    concurrent_requests = _LimitField(label=_("Requests at a time"))

    def quotas(self) -> dict[Unit, int | None]:
        """Return the limits that were typed; None: none of its own."""
        return {unit: self.cleaned_data[unit.column] for unit in Unit}

    @staticmethod
    def values(row: Limited) -> dict[str, int | None]:
        """Return a row's limits as the form shows them."""
        return {unit.column: getattr(row, unit.column) for unit in Unit}
