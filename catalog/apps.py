"""What is on sale, and at which price."""

from __future__ import annotations

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """What is on sale, and at which price."""

    name = "catalog"
    default_auto_field = "django.db.models.BigAutoField"
