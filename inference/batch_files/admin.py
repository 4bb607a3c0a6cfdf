"""Batch files for operators. Read only."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, badge
from billing.templatetags.money import money
from inference.models import BatchFile


@admin.register(BatchFile)
class BatchFileAdmin(ReadOnlyAdmin):
    """Batch files. What is in them is the tenant's and is not shown."""

    list_display = [
        *("name", "organization", "model_version", "status_badge", "rows", "invalid_rows"),
        *("estimate", "cost", "error_code", "created_at", "finished_at", "expires_at"),
    ]
    list_filter = ["status", "error_code", "created_at"]
    list_select_related = ["organization", "model_version__model__owner"]
    search_fields = ["organization__slug", "name", "sha256"]
    date_hierarchy = "created_at"
    readonly_fields = ["status_badge", "estimate", "most", "cost"]
    exclude = ["status", "row_errors", "columns", "estimate_nanos", "max_cost_nanos"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BatchFile]:
        """Add up the chunks of a page in one query."""
        found: QuerySet[BatchFile] = super().get_queryset(request)
        return found.defer("row_errors", "columns").annotate(**BatchFile.SUMS)

    @badge(
        _("Status"),
        {"succeeded": "success", "failed": "danger", "paused": "warning", "processing": "info"},
        ordering="status",
    )
    def status_badge(self, batch: BatchFile) -> str:
        """Return the status."""
        return batch.status

    @admin.display(description=_("Estimate"), ordering="estimate_nanos")
    def estimate(self, batch: BatchFile) -> str:
        """Return what it was expected to cost."""
        return money(batch.estimate_nanos)

    @admin.display(description=_("At most"))
    def most(self, batch: BatchFile) -> str:
        """Return the most that its owner lets it cost."""
        return "" if batch.max_cost_nanos is None else money(batch.max_cost_nanos)

    @admin.display(description=_("Cost"))
    def cost(self, batch: BatchFile) -> str:
        """Return what it has cost."""
        return money(vars(batch)["cost_nanos"])
