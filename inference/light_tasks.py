"""What beat asks of inference; may run twice."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from inference import predictions
from inference.models import Worker


@shared_task(name="inference.forget_predictions")
def forget_predictions() -> None:
    """Delete what is not kept any longer: stored predictions, workers long gone."""
    predictions.forget_expired()
    Worker.objects.filter(seen_at__lt=timezone.now() - timedelta(days=7)).delete()
