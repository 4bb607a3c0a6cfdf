"""Money: the only app that writes amounts."""

from __future__ import annotations

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Money: the only app that writes amounts."""

    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"
