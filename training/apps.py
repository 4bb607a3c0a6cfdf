"""Training jobs."""

from __future__ import annotations

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    """Training jobs."""

    name = "training"
    default_auto_field = "django.db.models.BigAutoField"
