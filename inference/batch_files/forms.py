"""The form of a new batch file."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.errors import MercatoError
from accounts.models import Organization
from billing.forms import AmountField
from catalog.models import MLModel
from inference.batch_files.orders import Order
from inference.models import BatchFile

_MAX_NAME = 200


class BatchFileForm(forms.Form):
    """A file, the model it is for, and what to do when something does not fit."""

    model = forms.ChoiceField(label=_("Model"), widget=forms.Select(attrs={"class": "select"}))
    file = forms.FileField(
        label=_("File"),
        max_length=_MAX_NAME,
        allow_empty_file=True,
        widget=forms.FileInput(
            attrs={"class": "file-input w-full", "accept": ".jsonl,.ndjson,.csv"}
        ),
    )
    max_cost = AmountField(
        label=_("The most it may cost, in USD"),
        required=False,
        help_text=_("Empty: what the estimate says."),
    )
    when_refused = forms.ChoiceField(
        label=_("When the money runs out"),
        choices=[
            (BatchFile.WhenRefused.PAUSE, _("Wait for more")),
            (BatchFile.WhenRefused.FAIL, _("Stop, keep what is done")),
        ],
        widget=forms.Select(attrs={"class": "select"}),
    )
    skip_invalid = forms.BooleanField(
        label=_("Skip rows that do not fit the model; they are free"),
        required=False,
        widget=forms.CheckboxInput(attrs={"class": "checkbox checkbox-sm"}),
    )

    def __init__(self, organization: Organization, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        field = self.fields["model"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(model.path, model.path) for model in _models(organization)]

    def order(self) -> Order:
        """Return what was asked for."""
        data = self.cleaned_data
        return Order(
            ref=data["model"],
            name=(data["file"].name or "file")[-_MAX_NAME:],
            skips_invalid=data["skip_invalid"],
            when_refused=data["when_refused"],
            max_cost_nanos=data["max_cost"],
        )

    def refuse(self, error: MercatoError) -> None:
        """Say at the field why the file was not taken."""
        self.add_error("file" if error.param in {"file", "format"} else None, error.message)


def _models(organization: Organization) -> QuerySet[MLModel]:
    offered = MLModel.objects.visible_to(organization).filter(current_version__isnull=False)
    return offered.select_related("owner").order_by("owner__slug", "name")
