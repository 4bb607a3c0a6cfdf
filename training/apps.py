"""Training jobs."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from accounts import naming


class TrainingConfig(AppConfig):
    """Training jobs."""

    name = "training"
    verbose_name = _("Training")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Name the rows for people."""
        naming.name(self)
