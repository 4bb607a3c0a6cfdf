"""Forms of the console's money pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.keys import DEFAULT_SCOPES
from accounts.limit_forms import LimitFields
from accounts.models import ApiKey, Organization
from billing.models import Hold, UsageRollup
from billing.models.holds import HoldQuerySet
from billing.money import decimal_text, parse
from billing.period_forms import PeriodForm
from catalog.models import MLModel, ModelVersion

MAX_LIMIT_NANOS = 1_000_000 * 10**9
_ID = re.compile(r"[0-9]{1,18}")
_SOURCES = {"web": Hold.Source.WEB, "training": Hold.Source.TRAINING, "batch": Hold.Source.BATCH}


class AmountField(forms.CharField):
    """An amount such as 12.50, read exactly; its value is in nanos."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(
            attrs={"class": "input num", "inputmode": "decimal", "autocomplete": "off"}
        )
        super().__init__(**{"max_length": 20, "widget": widget, **options})

    def clean(self, value: Any) -> Any:
        """Return nanos, or None if the field may be empty and is."""
        text = super().clean(value).removeprefix("$").strip()
        if not text:
            return None
        try:
            nanos = parse(text)
        except ValueError as error:
            raise ValidationError(gettext("Enter an amount such as 12.50.")) from error
        if not 0 <= nanos <= MAX_LIMIT_NANOS:
            raise ValidationError(gettext("Enter an amount from 0 to 1000000."))
        return nanos

    def prepare_value(self, value: Any) -> Any:
        """Write nanos as a decimal; what a person typed stays as it was."""
        return decimal_text(value) if isinstance(value, int) else value


class KeyForm(LimitFields):
    """A new API key."""

    EXPIRY = {"": None, "30": 30, "90": 90, "365": 365}

    name = forms.CharField(
        label=_("Name"),
        max_length=80,
        help_text=_("Where the key will be used, such as “production” or “my laptop”."),
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label=_("The key may"),
        choices=[
            ("predict", _("run models")),
            ("train", _("train models")),
            ("read", _("read usage and balance")),
            ("billing", _("change budgets and add credit")),
            ("webhooks", _("change webhooks")),
        ],
        initial=list(DEFAULT_SCOPES),
        widget=forms.CheckboxSelectMultiple(attrs={"class": "checkbox checkbox-sm"}),
    )
    monthly_limit = AmountField(
        label=_("Monthly limit in USD"),
        required=False,
        help_text=_("Optional. No run starts that could take this key past it."),
    )
    expires = forms.ChoiceField(
        label=_("Expires"),
        required=False,
        choices=[
            ("", _("Never")),
            ("30", _("In 30 days")),
            ("90", _("In 90 days")),
            ("365", _("In a year")),
        ],
        widget=forms.Select(attrs={"class": "select"}),
    )

    def expires_at(self) -> datetime | None:
        """When the key ends; None if it does not."""
        days = self.EXPIRY[self.cleaned_data["expires"]]
        return timezone.now() + timedelta(days=days) if days else None


class LimitForm(forms.Form):
    """The organization's monthly limit."""

    amount = AmountField(label=_("Monthly limit in USD"))


class UsageFilterForm(PeriodForm):
    """Which calls the usage page shows; everything is in the address."""

    model = forms.CharField(
        label=_("Model"), required=False, widget=forms.Select(attrs={"class": "select"})
    )
    key = forms.CharField(
        label=_("Key"), required=False, widget=forms.Select(attrs={"class": "select"})
    )
    outcome = forms.ChoiceField(
        label=_("Outcome"),
        required=False,
        choices=[
            ("", _("All")),
            ("succeeded", _("Succeeded")),
            ("failed", _("Failed")),
            ("open", _("Running")),
        ],
        widget=forms.Select(attrs={"class": "select"}),
    )

    def __init__(self, data: Mapping[str, Any], *, organization: Organization) -> None:
        self.organization = organization
        super().__init__(data)
        self._offer("model", [(path, path) for path in _used_models(organization)], _("All"))
        keys = [(str(key.pk), str(key)) for key in _keys(organization)]
        sources = [("web", gettext("Browser")), ("training", gettext("Training"))]
        sources.append(("batch", gettext("Batch file")))
        self._offer("key", [*keys, *sources], _("All"))

    def holds(self) -> HoldQuerySet:
        """Return the organization's holds that the filter asks for; none if it is not valid."""
        holds = Hold.objects.visible_to(self.organization)
        if not self.is_valid():
            return holds.none()
        first, last = self.days
        holds = holds.accepted(_midnight(first), _midnight(last + timedelta(days=1)))
        holds = self._of_key(holds, self.cleaned_data["key"])
        holds = self._of_outcome(holds, self.cleaned_data["outcome"])
        owner, _slash, name = self.cleaned_data["model"].partition("/")
        return holds.of_model(owner, name) if owner else holds

    def rollups(self) -> QuerySet[UsageRollup]:
        """Return the hourly sums of what was charged among the same calls."""
        sums = UsageRollup.objects.filter(organization=self.organization)
        if not self.is_valid() or self.cleaned_data["outcome"] in {"failed", "open"}:
            return sums.none()
        first, last = self.days
        sums = sums.filter(hour__gte=_midnight(first), hour__lt=_midnight(last + timedelta(days=1)))
        key = self.cleaned_data["key"]
        if key in _SOURCES:
            # Trainings run no version; only calls from the browser run one without a key.
            is_training = key == "training"
            sums = sums.filter(model_version_id=0) if is_training else _browser(sums)
        elif key:
            sums = sums.filter(api_key_id=int(key)) if _ID.fullmatch(key) else sums.none()
        owner, _slash, name = self.cleaned_data["model"].partition("/")
        if owner:
            versions = ModelVersion.objects.filter(model__owner__slug=owner, model__name=name)
            sums = sums.filter(model_version_id__in=versions.values("pk"))
        return sums

    def _offer(self, name: str, choices: list[tuple[str, str]], everything: Any) -> None:
        """Fill a select; a value from the address that is not in it is shown as it is."""
        current = str(self.data.get(name, ""))
        if current and current not in {value for value, _label in choices}:
            choices = [(current, current), *choices]
        widget = cast(forms.Select, self.fields[name].widget)
        widget.choices = [("", everything), *choices]

    @staticmethod
    def _of_key(holds: HoldQuerySet, key: str) -> HoldQuerySet:
        if key in _SOURCES:
            return holds.filter(source=_SOURCES[key])
        if not key:
            return holds
        return holds.filter(api_key_id=int(key)) if _ID.fullmatch(key) else holds.none()

    @staticmethod
    def _of_outcome(holds: HoldQuerySet, outcome: str) -> HoldQuerySet:
        if outcome == "open":
            return holds.filter(state=Hold.State.AUTHORISED)
        if outcome == "succeeded":
            return holds.filter(usage__outcome="succeeded")
        if outcome == "failed":
            ended = holds.exclude(state=Hold.State.AUTHORISED)
            return ended.exclude(usage__outcome="succeeded")
        return holds


def _browser(sums: QuerySet[UsageRollup]) -> QuerySet[UsageRollup]:
    return sums.filter(api_key_id=0, model_version_id__gt=0)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def _keys(organization: Organization) -> QuerySet[ApiKey]:
    return ApiKey.objects.visible_to(organization)


def _used_models(organization: Organization) -> list[str]:
    """Return the paths of models the organization has used, read from the small rollups."""
    used = UsageRollup.objects.filter(organization=organization).values("model_version_id")
    models = MLModel.objects.filter(versions__in=used).select_related("owner").distinct()
    return [model.path for model in models]
