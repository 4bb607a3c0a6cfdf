"""Predictions: lanes, workers, runtimes."""

from __future__ import annotations

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    """Predictions: lanes, workers, runtimes."""

    name = "inference"
    default_auto_field = "django.db.models.BigAutoField"
