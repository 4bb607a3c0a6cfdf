"""Models and their versions: publish and withdraw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, ReadOnlyInline, badge, deed, operator
from catalog import publishing
from catalog.models import Artifact, MLModel, ModelVersion

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

STATUS_COLORS = {"published": "success", "draft": "info", "withdrawn": "danger"}


class VersionInline(ReadOnlyInline):
    """The versions of a model."""

    model = ModelVersion
    fk_name = "model"
    fields = ["link", "status", "runtime", "parameters", "size_bytes", "published_at"]
    readonly_fields = ["link"]
    show_change_link = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        """Read the model's name in the same query: each line shows it."""
        found: QuerySet[ModelVersion] = super().get_queryset(request)
        return found.select_related("model__owner")

    @admin.display(description=_("Version"))
    def link(self, version: ModelVersion) -> str:
        """Return a link to the version, where it is published and withdrawn."""
        url = reverse("admin:catalog_modelversion_change", args=[version.pk])
        return format_html('<a href="{}" class="underline">{}</a>', url, version.path)


@admin.register(MLModel)
class MLModelAdmin(ReadOnlyAdmin):
    """Entries of the catalogue. Their texts are the publisher's."""

    list_display = [
        "path",
        "title_en",
        "task",
        "framework",
        "state",
        "current_version",
        "version_count",
        "created_at",
    ]
    list_filter = ["task", "framework", "is_public"]
    list_select_related = ["owner", "current_version__model__owner"]
    search_fields = ["name", "owner__slug", "title_en", "title_zh"]
    date_hierarchy = "created_at"
    exclude = ["search_text"]
    inlines = [VersionInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[MLModel]:
        """Count the versions in the same query."""
        found: QuerySet[MLModel] = super().get_queryset(request)
        return found.annotate(version_count=Count("versions"))

    @admin.display(description=_("Model"), ordering="name")
    def path(self, model: MLModel) -> str:
        """Return the public id."""
        return model.path

    @badge(_("State"), {"public": "success", "private": "info"}, ordering="is_public")
    def state(self, model: MLModel) -> str:
        """Return who can see it."""
        return "public" if model.is_public else "private"

    @admin.display(description=_("Versions"), ordering="version_count")
    def version_count(self, model: Any) -> int:
        """Return how many versions there are."""
        return int(model.version_count)


class ArtifactInline(ReadOnlyInline):
    """The files of a version."""

    model = Artifact
    fields = ["kind", "path", "sha256", "size_bytes"]
    ordering = ["kind"]


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    """Builds of models. What one computes never changes; whether it is offered may."""

    list_display = ["path", "status_badge", "runtime", "parameters", "size_bytes", "published_at"]
    list_filter = ["status", "runtime", "published_at"]
    list_select_related = ["model__owner"]
    search_fields = ["model__name", "model__owner__slug"]
    ordering = ["-pk"]
    inlines = [ArtifactInline]
    # Not the columns of JSON: matrices and pictures as nested lists tell an operator nothing.
    fieldsets = [
        (None, {"fields": ["model", "number", "status_badge", "created_at", "published_at"]}),
        (_("What it computes"), {"fields": ["inputs", "outputs", "runtime", "latency"]}),
        (_("How good it is"), {"fields": ["held_out", "parameters", "size_bytes"]}),
        (_("How it was made"), {"fields": ["recipe", "hyperparameters"]}),
        (_("What is billed"), {"fields": ["policy"]}),
    ]
    readonly_fields = [
        "status_badge",
        "inputs",
        "outputs",
        "latency",
        "held_out",
        "recipe",
        "hyperparameters",
        "policy",
    ]
    actions_detail = ["publish", "withdraw"]

    @admin.display(description=_("Version"), ordering="model__name")
    def path(self, version: ModelVersion) -> str:
        """Return the public id."""
        return version.path

    @badge(_("Status"), STATUS_COLORS, ordering="status")
    def status_badge(self, version: ModelVersion) -> str:
        """Return the status."""
        return version.status

    @admin.display(description=_("Inputs"))
    def inputs(self, version: ModelVersion) -> str:
        """Return name, type and shape of what goes in."""
        return _tensors(version.signature.get("inputs", []))

    @admin.display(description=_("Outputs"))
    def outputs(self, version: ModelVersion) -> str:
        """Return name, type and shape of what comes out."""
        return _tensors(version.signature.get("outputs", []))

    @admin.display(description=_("Median time of a row"))
    def latency(self, version: ModelVersion) -> str:
        """Return what was measured on the runtime that serves it."""
        return "" if version.latency_us is None else f"{version.latency_us} µs"

    @admin.display(description=_("Held-out metrics"))
    def held_out(self, version: ModelVersion) -> str:
        """Return the metrics that are one number."""
        return _scalars(version.metrics)

    @admin.display(description=_("Recipe and data"))
    def recipe(self, version: ModelVersion) -> str:
        """Return how it was trained."""
        return _scalars(version.training)

    @admin.display(description=_("Hyper-parameters"))
    def hyperparameters(self, version: ModelVersion) -> str:
        """Return the choices it was trained with."""
        return _scalars(version.training.get("hyperparameters", {}))

    @admin.display(description=_("Outcome policy, in percent"))
    def policy(self, version: ModelVersion) -> str:
        """Return how much of the price each outcome costs."""
        return _scalars(version.outcome_policy)

    def has_publish_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to publish what is not published."""
        row = ModelVersion.objects.filter(pk=obj).exclude(status=ModelVersion.Status.PUBLISHED)
        return self.has_operate_permission(request) and row.exists()

    def has_withdraw_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to withdraw what is published."""
        row = ModelVersion.objects.filter(pk=obj, status=ModelVersion.Status.PUBLISHED)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Publish"), icon="publish", permission="publish")
    def publish(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Offer the version to everybody who may see the model."""

        def do(version: ModelVersion, form: dict[str, Any]) -> StrOrPromise:
            changed = publishing.publish(version, actor=operator(request), reason=form["reason"])
            return _("The version is published.") if changed else _("It was published before.")

        return self.perform(
            request,
            object_id,
            title=_("Publish"),
            explain=_("It can be called; the newest such version answers calls without a number."),
            do=do,
        )

    @deed(_("Withdraw"), icon="block", permission="withdraw")
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take the version out of the catalogue."""

        def do(version: ModelVersion, form: dict[str, Any]) -> StrOrPromise:
            changed = publishing.withdraw(version, actor=operator(request), reason=form["reason"])
            return _("The version is withdrawn.") if changed else _("It was not published.")

        return self.perform(
            request,
            object_id,
            title=_("Withdraw"),
            explain=_("Within five seconds new calls of it are refused. Files and calls stay."),
            do=do,
        )


def _tensors(specs: list[dict[str, Any]]) -> str:
    return ", ".join(f"{spec['name']}: {spec['datatype']} {spec['shape']}" for spec in specs)


def _scalars(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value}" for name, value in values.items() if not isinstance(value, list | dict)
    )
