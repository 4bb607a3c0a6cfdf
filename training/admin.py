"""Jobs: watch and cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts import audit
from accounts.admin import ReadOnlyAdmin, badge, deed, operator
from billing.templatetags.money import money
from training import jobs
from training.models import Job

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Trainings of all organizations."""

    list_display = [
        "id",
        "organization",
        "recipe",
        "data",
        "state_badge",
        "progress_text",
        "attempt",
        "charged",
        "created_at",
        "finished_at",
    ]
    list_filter = ["state", "recipe", "pool", "created_at"]
    list_select_related = ["organization", "hold"]
    search_fields = ["organization__slug", "recipe", "error_code", "publish_as"]
    date_hierarchy = "created_at"
    readonly_fields = ["charged"]
    # Some hundred points of a curve; the training's own page draws it.
    exclude = ["curve"]
    actions_detail = ["cancel"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Leave the curves in the database."""
        found: QuerySet[Job] = super().get_queryset(request)
        return found.defer("curve")

    @badge(
        _("State"),
        {
            "succeeded": "success",
            "failed": "danger",
            "canceled": "warning",
            "queued": "info",
            "starting": "info",
            "processing": "info",
        },
        ordering="state",
    )
    def state_badge(self, job: Job) -> str:
        """Return the state."""
        return job.state

    @admin.display(description=_("Progress"))
    def progress_text(self, job: Job) -> str:
        """Return the epoch the job is at."""
        if "epoch" not in job.progress:
            return ""
        return f"{job.progress['epoch']} / {job.progress.get('epochs', '?')}"

    @admin.display(description=_("Charged"))
    def charged(self, job: Job) -> str:
        """Return what the training cost."""
        return money(job.hold.captured_nanos if job.hold else None)

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to cancel what has not ended."""
        row = Job.objects.filter(pk=obj).exclude(state__in=Job.TERMINAL)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Cancel"), icon="cancel", permission="cancel")
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask the runner to stop."""

        def do(job: Job, form: dict[str, Any]) -> StrOrPromise:
            jobs.cancel(job)
            audit.record(
                operator(request),
                "training.canceled",
                job,
                organization=job.organization,
                reason=form["reason"],
            )
            return _("The training is asked to stop.")

        return self.perform(
            request,
            object_id,
            title=_("Cancel this training"),
            explain=_("The runner stops after its current step. Nothing is published."),
            do=do,
        )
