"""Forms of the training pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django import forms
from django.core.validators import RegexValidator
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from accounts.errors import MercatoError
from billing.forms import AmountField
from catalog.models.models import NAME
from training import estimates, jobs
from training.estimates import Estimate
from training.jobs import Order
from training.recipes import Recipe
from training.recipes.hyperparameters import (
    INTEGERS,
    LEARNING_RATE_HIGH,
    LEARNING_RATE_LOW,
    OPTIMIZERS,
)

DATA_NAMES = {
    "digits": _("scikit-learn digits, 1,797 images"),
    "mnist": _("MNIST, 70,000 images"),
    "line": _("y = 3x + 2 with noise, 1,000 points"),
}
# What a refusal means for the person before the form; other codes speak for themselves.
REFUSALS = {
    "insufficient_credit": _("Your balance is lower than what is set aside at the start."),
    "cap_reached": _("A spending limit leaves less than what is set aside at the start."),
    "organization_frozen": _("An operator has frozen your organization: nothing new can start."),
    "job_limit": _("Too many trainings are under way. Wait for one to end or cancel one."),
    "training_too_long": _("This would take too long. Choose fewer epochs or larger batches."),
    "not_publishable": _("The files of this training are no longer kept, or it is published."),
    "model_mismatch": _("This name belongs to a model of another kind. Choose another one."),
}
_NUMBER = {"class": "input num", "autocomplete": "off"}


def _words(error: MercatoError) -> Any:
    return REFUSALS.get(error.code, error.message)


def _whole(name: str, label: Any) -> forms.IntegerField:
    bounds = INTEGERS[name]
    return forms.IntegerField(
        label=label,
        min_value=bounds.low,
        max_value=bounds.high,
        help_text=format_lazy(_("{low} to {high}"), low=bounds.low, high=bounds.high),
        widget=forms.NumberInput(attrs=_NUMBER),
    )


class TrainingForm(forms.Form):
    """A new training of one recipe."""

    recipe = forms.CharField(widget=forms.HiddenInput)
    data_set = forms.ChoiceField(label=_("Data"), widget=forms.Select(attrs={"class": "select"}))
    optimizer = forms.ChoiceField(
        label=_("Optimizer"),
        choices=[(name, name) for name in OPTIMIZERS],
        widget=forms.Select(attrs={"class": "select"}),
    )
    learning_rate = forms.DecimalField(
        label=_("Learning rate"),
        min_value=LEARNING_RATE_LOW,
        max_value=LEARNING_RATE_HIGH,
        max_digits=10,
        decimal_places=9,
        help_text=format_lazy(
            _("{low} to {high}"), low=f"{LEARNING_RATE_LOW:f}", high=f"{LEARNING_RATE_HIGH:f}"
        ),
        widget=forms.TextInput(attrs={**_NUMBER, "inputmode": "decimal"}),
    )
    batch_size = _whole("batch_size", _("Batch size"))
    epochs = _whole("epochs", _("Epochs"))

    def __init__(self, recipe: Recipe, data: Mapping[str, Any] | None = None) -> None:
        self.recipe_of = recipe
        self.data_sets = estimates.available_data(recipe)
        chosen = recipe.defaults((self.data_sets or recipe.data)[0])
        initial = {**chosen.as_json(), "recipe": recipe.name}
        super().__init__(data, initial=initial)
        field = cast(forms.ChoiceField, self.fields["data_set"])
        field.choices = [(name, DATA_NAMES.get(name, name)) for name in self.data_sets]

    def order(self) -> Order | None:
        """Return what is asked for, checked; None if a field is wrong and says so."""
        if not self.is_valid():
            return None
        data = self.cleaned_data
        choices = {
            "optimizer": data["optimizer"],
            "learning_rate": f"{data['learning_rate'].normalize():f}",
            "batch_size": data["batch_size"],
            "epochs": data["epochs"],
        }
        try:
            return jobs.order(data["recipe"], data["data_set"], choices)
        except MercatoError as error:
            self.refuse(error)
            return None

    def estimate(self) -> Estimate | None:
        """Return time and price; None if a field is wrong and says so."""
        wanted = self.order() if self.is_bound else self._defaults()
        if wanted is None:
            return None
        try:
            return estimates.estimate(wanted.recipe, wanted.data, wanted.hyperparameters)
        except MercatoError as error:
            self.refuse(error)
            return None

    def refuse(self, error: MercatoError) -> None:
        """Show a refusal beside the field it names."""
        if not self.is_bound:
            return
        field = (error.param or "").rpartition(".")[2].replace("data", "data_set")
        self.add_error(field if field in self.fields else None, _words(error))

    def _defaults(self) -> Order | None:
        return jobs.order(self.recipe_of.name, self.data_sets[0]) if self.data_sets else None


class PublishForm(forms.Form):
    """A finished training becomes a version of a model of one's own."""

    name = forms.CharField(
        label=_("Name"),
        max_length=64,
        validators=[RegexValidator(NAME.regex, _("Use small letters, digits and hyphens."))],
        help_text=_("Small letters, digits, hyphens. The name of a model of yours adds a version."),
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    title_en = forms.CharField(
        label=_("Title in English"),
        max_length=120,
        widget=forms.TextInput(attrs={"class": "input"}),
    )
    title_zh = forms.CharField(
        label=_("Title in Chinese"),
        max_length=120,
        required=False,
        widget=forms.TextInput(attrs={"class": "input", "lang": "zh-Hans"}),
    )
    summary_en = forms.CharField(
        label=_("Summary in English"),
        max_length=300,
        widget=forms.Textarea(attrs={"class": "textarea", "rows": 2}),
    )
    summary_zh = forms.CharField(
        label=_("Summary in Chinese"),
        max_length=300,
        required=False,
        widget=forms.Textarea(attrs={"class": "textarea", "rows": 2, "lang": "zh-Hans"}),
    )
    price = AmountField(
        label=_("Price per row in USD"), help_text=_("0 is free. You earn a share of each charge.")
    )
    is_public = forms.ChoiceField(
        label=_("Who may use it"),
        choices=[("yes", _("Everybody")), ("no", _("Only your organization"))],
        initial="no",
        widget=forms.RadioSelect(attrs={"class": "radio radio-sm"}),
    )

    def __init__(self, recipe: Recipe | None, data: Mapping[str, Any] | None = None) -> None:
        initial: dict[str, Any] = {}
        if recipe is not None:
            initial = {
                "name": recipe.name,
                "title_en": recipe.title_en,
                "title_zh": recipe.title_zh,
                "summary_en": recipe.architecture_en[:300],
                "summary_zh": recipe.architecture_zh[:300],
                "price": recipe.price_nanos,
            }
        super().__init__(data, initial=initial)

    def refuse(self, error: MercatoError) -> None:
        """Show a refusal beside the field it names."""
        field = error.param or ""
        self.add_error(field if field in self.fields else None, _words(error))
