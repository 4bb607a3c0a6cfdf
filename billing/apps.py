"""Money: the only app that writes amounts."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class BillingConfig(AppConfig):
    """Money: the only app that writes amounts."""

    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Keep the guards of the database in place, and know who handles webhooks."""
        from billing import handlers, triggers  # the apps are ready only now

        handlers.register()
        post_migrate.connect(triggers.install, sender=self)
