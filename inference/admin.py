"""Workers, stored predictions, limits, traffic and webhooks. Read only, but for buttons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts import audit
from accounts.admin import ReadOnlyAdmin, badge, deed, operator
from inference.asynchronous import endings
from inference.batch_files import admin as _batch_files  # noqa: F401  (registers itself)
from inference.fleet_admin import WorkerAdmin
from inference.models import Canary, LimiterOutage, Prediction, Shadow, VersionAlias
from inference.traffic import canaries, shadows
from inference.webhooks import admin as _webhooks  # noqa: F401  (registers itself)

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

__all__ = ["PredictionAdmin", "WorkerAdmin", "age"]


def age(seconds: float) -> str:
    """Write a length of time in its largest unit."""
    whole = max(int(seconds), 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


@admin.register(Prediction)
class PredictionAdmin(ReadOnlyAdmin):
    """Stored runs. What went in and came out is the tenant's and is not shown."""

    list_display = [
        "id",
        "organization",
        "model_version",
        "status_badge",
        "is_async",
        "attempt",
        "created_at",
        "finished_at",
        "expires_at",
    ]
    list_filter = ["status", "is_async", "created_at"]
    list_select_related = ["organization", "model_version__model__owner", "user"]
    search_fields = ["organization__slug", "idempotency_key"]
    date_hierarchy = "created_at"
    exclude = ["input", "answer"]
    actions_detail = ["cancel"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Prediction]:
        """Leave inputs and outputs in the database."""
        found: QuerySet[Prediction] = super().get_queryset(request)
        return found.defer("input", "answer")

    @badge(
        _("Status"),
        {
            "succeeded": "success",
            "failed": "danger",
            "canceled": "warning",
            "queued": "info",
            "starting": "info",
            "processing": "info",
        },
        ordering="status",
    )
    def status_badge(self, prediction: Prediction) -> str:
        """Return the status."""
        return prediction.status

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to cancel what runs in the background and has not ended."""
        row = Prediction.objects.filter(pk=obj, is_async=True, finished_at=None)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Cancel"), icon="cancel", permission="cancel")
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End an asynchronous prediction."""

        def do(prediction: Prediction, form: dict[str, Any]) -> StrOrPromise:
            if not endings.cancel(prediction):
                return _("It had ended already.")
            audit.record(
                operator(request),
                "prediction.canceled",
                prediction,
                organization=prediction.organization,
                reason=form["reason"],
            )
            return _("The prediction is canceled.")

        return self.perform(
            request,
            object_id,
            title=_("Cancel this prediction"),
            explain=_("What has not begun costs nothing; what runs, what the outcome policy says."),
            do=do,
        )


@admin.register(LimiterOutage)
class LimiterOutageAdmin(ReadOnlyAdmin):
    """Times in which requests were let through without being counted against limits."""

    list_display = ["started_at", "state", "ended_at", "uncounted", "process", "error"]
    list_filter = [("ended_at", admin.EmptyFieldListFilter), "started_at"]
    search_fields = ["process", "error"]
    date_hierarchy = "started_at"

    @badge(_("State"), {"over": "success", "goes on": "danger"})
    def state(self, outage: LimiterOutage) -> str:
        """Return whether requests are counted again."""
        return "goes on" if outage.ended_at is None else "over"


@admin.register(Canary)
class CanaryAdmin(ReadOnlyAdmin):
    """Versions that are, or were, tried on a part of their model's calls."""

    list_display = ["started_at", "model", "version", "percent", "state_badge", "cause", "ended_at"]
    list_filter = ["state", "cause", "started_at"]
    list_select_related = ["model__owner", "version__model__owner"]
    search_fields = ["model__name", "model__owner__slug"]
    date_hierarchy = "started_at"
    actions_detail = ["stop"]

    @badge(
        _("State"),
        {
            "running": "warning",
            "promoted": "success",
            "stopped": "info",
            "rolled_back": "danger",
        },
        ordering="state",
    )
    def state_badge(self, canary: Canary) -> str:
        """Return the state."""
        return canary.state

    def has_stop_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to stop what runs."""
        row = Canary.objects.filter(pk=obj, state=Canary.State.RUNNING)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Stop"), icon="undo", permission="stop")
    def stop(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give all calls to the current version again, for a reason."""

        def do(canary: Canary, form: dict[str, Any]) -> StrOrPromise:
            if not canaries.stop(canary, actor=operator(request), reason=form["reason"]):
                return _("It had ended before.")
            return _("All calls go to the current version again.")

        return self.perform(
            request,
            object_id,
            title=_("Stop this canary"),
            explain=_("All calls go to the current version again within five seconds."),
            do=do,
        )


@admin.register(Shadow)
class ShadowAdmin(ReadOnlyAdmin):
    """Versions that run, or ran, copies of calls to their model's current version."""

    list_display = [
        "started_at",
        "model",
        "version",
        "percent",
        "state_badge",
        "calls",
        "failures",
        "agreed",
        "ended_at",
    ]
    list_filter = ["state", "started_at"]
    list_select_related = ["model__owner", "version__model__owner"]
    search_fields = ["model__name", "model__owner__slug"]
    date_hierarchy = "started_at"
    actions_detail = ["stop"]

    @badge(_("State"), {"running": "warning", "stopped": "info"}, ordering="state")
    def state_badge(self, shadow: Shadow) -> str:
        """Return the state."""
        return shadow.state

    def has_stop_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to stop what runs."""
        row = Shadow.objects.filter(pk=obj, state=Shadow.State.RUNNING)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Stop"), icon="undo", permission="stop")
    def stop(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Copy no more calls, for a reason."""

        def do(shadow: Shadow, form: dict[str, Any]) -> StrOrPromise:
            if not shadows.stop(shadow, actor=operator(request), reason=form["reason"]):
                return _("It had ended before.")
            return _("No more calls are copied.")

        return self.perform(
            request,
            object_id,
            title=_("Stop this shadow"),
            explain=_("No more calls are copied after five seconds. What was counted stays."),
            do=do,
        )


@admin.register(VersionAlias)
class VersionAliasAdmin(ReadOnlyAdmin):
    """Publishers' names for versions."""

    list_display = ["model", "name", "version", "changed_at"]
    list_select_related = ["model__owner", "version__model__owner"]
    search_fields = ["name", "model__name", "model__owner__slug"]
