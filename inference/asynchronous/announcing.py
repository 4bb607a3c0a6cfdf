"""Makes webhooks of predictions that have ended; the prediction itself depends on none of them."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from inference.asynchronous import snapshots
from inference.models import Prediction, WebhookEndpoint
from inference.webhooks import events


def announce(limit: int = 500) -> int:
    """Make deliveries of ends that were not announced yet, once; returns how many predictions."""
    waiting = Prediction.objects.filter(
        is_async=True, announced_at=None, finished_at__isnull=False
    ).order_by("pk")
    found = list(waiting.with_version()[:limit])
    listening = set(
        WebhookEndpoint.objects.filter(
            is_active=True, organization__in={one.organization_id for one in found}
        ).values_list("organization_id", flat=True)
    )
    for prediction in found:
        if prediction.organization_id in listening:
            _announce(prediction)
    silent = [one.pk for one in found if one.organization_id not in listening]
    Prediction.objects.filter(pk__in=silent).update(announced_at=timezone.now())
    return len(found)


def _announce(prediction: Prediction) -> None:
    with transaction.atomic():
        events.emit(
            prediction.organization_id,
            events.PREDICTION_COMPLETED,
            # Not of its id: that may be chosen again when this prediction is forgotten.
            f"evt_prediction_{prediction.hold_id}",
            snapshots.as_json(prediction),
            occurred_at=prediction.finished_at,
            link=f"/v1/predictions/{prediction.pk}",
            endpoint_id=prediction.webhook_id,
        )
        Prediction.objects.filter(pk=prediction.pk).update(announced_at=timezone.now())
