"""Forms of the page of a model's traffic."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from catalog.models import MLModel, ModelVersion
from inference.models.traffic import ALIAS
from inference.traffic.canaries import BOUNDS, Rule


def _number(name: str, **options: Any) -> forms.IntegerField:
    low, high = BOUNDS[name]
    widget = forms.NumberInput(
        attrs={"class": "input num", "inputmode": "numeric", "autocomplete": "off"}
    )
    return forms.IntegerField(
        min_value=low, max_value=high, widget=widget, initial=asdict(Rule())[name], **options
    )


class _VersionForm(forms.Form):
    """Which version of a model."""

    version = forms.ModelChoiceField(
        label=_("Version"),
        queryset=ModelVersion.objects.none(),
        to_field_name="number",
        empty_label=None,
        widget=forms.Select(attrs={"class": "select"}),
    )

    def __init__(self, *args: Any, model: MLModel, **options: Any) -> None:
        super().__init__(*args, **options)
        field = self.fields["version"]
        assert isinstance(field, forms.ModelChoiceField)
        on_offer = model.versions.filter(status=ModelVersion.Status.PUBLISHED)
        field.queryset = on_offer.select_related("model__owner", "model__current_version")


class CanaryForm(_VersionForm):
    """A version to try, on how much, and when it is rolled back."""

    percent = _number("percent", label=_("Percent of the calls"))
    max_error_percent = _number(
        "max_error_percent", label=_("Rolled back above so many percent of failures")
    )
    max_slowdown_percent = _number(
        "max_slowdown_percent", label=_("Rolled back if slower by so many percent")
    )
    min_calls = _number("min_calls", label=_("Decided after so many calls"))

    def rule(self) -> Rule:
        """Return what was typed."""
        return Rule(**{name: self.cleaned_data[name] for name in BOUNDS})


class AliasForm(_VersionForm):
    """A name for a version."""

    alias = forms.CharField(
        label=_("Alias"),
        max_length=31,
        validators=[ALIAS],
        help_text=_("Small letters, digits and hyphens, such as “stable” or “for-2026”."),
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    field_order = ["alias", "version"]
