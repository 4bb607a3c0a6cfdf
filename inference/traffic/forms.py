"""Forms of the page of a model's traffic."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from catalog.models import MLModel, ModelVersion
from inference.models.traffic import ALIAS
from inference.traffic import shadows
from inference.traffic.canaries import BOUNDS, Rule


def _number(name: str, **options: Any) -> forms.IntegerField:
    low, high = BOUNDS[name]
    return _whole(low, high, asdict(Rule())[name], **options)


def _whole(low: int, high: int, initial: int, **options: Any) -> forms.IntegerField:
    widget = forms.NumberInput(
        attrs={"class": "input num", "inputmode": "numeric", "autocomplete": "off"}
    )
    return forms.IntegerField(
        min_value=low, max_value=high, widget=widget, initial=initial, **options
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

    # Their fields have the same names and are on one page: ids and labels must not be mixed up.
    ids = "canary_%s"

    def __init__(self, *args: Any, model: MLModel, **options: Any) -> None:
        options.setdefault("auto_id", self.ids)
        super().__init__(*args, **options)
        field = self.fields["version"]
        assert isinstance(field, forms.ModelChoiceField)
        able = self.able(model)
        field.queryset = able.select_related("model__owner", "model__current_version")

    def able(self, model: MLModel) -> QuerySet[ModelVersion]:
        """Return the versions to choose from."""
        return model.versions.filter(status=ModelVersion.Status.PUBLISHED)


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


class ShadowForm(_VersionForm):
    """A version that runs copies of calls, and of how many."""

    ids = "shadow_%s"
    percent = _whole(shadows.LOW, shadows.HIGH, shadows.PERCENT, label=_("Percent of the calls"))

    def able(self, model: MLModel) -> QuerySet[ModelVersion]:
        """Return the versions to choose from."""
        others = model.versions.exclude(pk__in=[model.current_version_id])
        return others.filter(status__in=shadows.ABLE)


class AliasForm(_VersionForm):
    """A name for a version."""

    ids = "alias_%s"
    alias = forms.CharField(
        label=_("Alias"),
        max_length=31,
        validators=[ALIAS],
        help_text=_("Small letters, digits and hyphens, such as “stable” or “for-2026”."),
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    field_order = ["alias", "version"]
