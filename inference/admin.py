"""Workers and stored predictions. Read only."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, badge
from inference.models import Prediction, Worker


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Worker processes: who is alive, and what they have loaded."""

    list_display = ["name", "kind", "pool", "state", "heartbeat", "models", "pid", "started_at"]
    list_filter = ["kind", "pool", ("stopped_at", admin.EmptyFieldListFilter)]
    search_fields = ["name"]
    ordering = ["-seen_at"]

    @badge(_("State"), {"alive": "success", "lost": "danger", "stopped": "info"})
    def state(self, worker: Worker) -> str:
        """Return whether the worker is there."""
        if worker.stopped_at is not None:
            return "stopped"
        return "alive" if worker.is_alive else "lost"

    @admin.display(description=_("Last seen"), ordering="seen_at")
    def heartbeat(self, worker: Worker) -> str:
        """Return how long ago the worker was last seen."""
        return age((timezone.now() - worker.seen_at).total_seconds())

    @admin.display(description=_("Loaded models"))
    def models(self, worker: Worker) -> str:
        """Return the versions in memory."""
        return ", ".join(str(item.get("version", "")) for item in worker.loaded)


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
        "user",
        "created_at",
        "finished_at",
        "expires_at",
    ]
    list_filter = ["status", "created_at"]
    list_select_related = ["organization", "model_version__model__owner", "user"]
    search_fields = ["organization__slug", "idempotency_key"]
    date_hierarchy = "created_at"
    exclude = ["input", "answer"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Prediction]:
        """Leave inputs and outputs in the database."""
        found: QuerySet[Prediction] = super().get_queryset(request)
        return found.defer("input", "answer")

    @badge(
        _("Status"),
        {"succeeded": "success", "failed": "danger", "processing": "info"},
        ordering="status",
    )
    def status_badge(self, prediction: Prediction) -> str:
        """Return the status."""
        return prediction.status
