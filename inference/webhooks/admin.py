"""What was sent to tenants' webhooks, for operators. Read only."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, ReadOnlyInline, badge
from inference.models import WebhookAttempt, WebhookDelivery


class AttemptInline(ReadOnlyInline):
    """What came of each request to the receiver."""

    model = WebhookAttempt
    fields = ["attempted_at", "status", "failure", "milliseconds", "excerpt", "secret_ids"]
    show_change_link = False


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    """Events on their way. What is in them is the tenant's and is not shown."""

    list_display = [
        *("created_at", "organization", "endpoint", "type", "state_badge", "attempts", "failure"),
        "next_attempt_at",
    ]
    list_filter = ["state", "failure", "type", "created_at"]
    list_select_related = ["endpoint__organization"]
    search_fields = ["event_id", "endpoint__url", "endpoint__organization__slug"]
    date_hierarchy = "created_at"
    exclude = ["payload"]
    inlines = [AttemptInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        """Leave what was sent in the database."""
        found: QuerySet[WebhookDelivery] = super().get_queryset(request)
        return found.defer("payload")

    @admin.display(description=_("Organization"))
    def organization(self, delivery: WebhookDelivery) -> str:
        """Return whose endpoint it is."""
        return delivery.endpoint.organization.slug

    @badge(
        _("State"),
        {"delivered": "success", "failed": "danger", "pending": "info"},
        ordering="state",
    )
    def state_badge(self, delivery: WebhookDelivery) -> str:
        """Return the state."""
        return delivery.state
