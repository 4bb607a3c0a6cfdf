"""What is on sale, and at which price."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from accounts import naming


class CatalogConfig(AppConfig):
    """What is on sale, and at which price."""

    name = "catalog"
    verbose_name = _("Catalogue")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Name the rows for people."""
        naming.name(self)
