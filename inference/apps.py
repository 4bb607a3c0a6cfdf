"""Predictions: lanes, workers, runtimes."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from accounts import naming


class InferenceConfig(AppConfig):
    """Predictions: lanes, workers, runtimes."""

    name = "inference"
    verbose_name = _("Inference")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Name the rows for people, and have every message say when it was sent."""
        from inference import queues

        naming.name(self)
        queues.date_messages()
