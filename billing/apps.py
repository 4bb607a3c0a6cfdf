"""Money: the only app that writes amounts."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _

from accounts import naming


class BillingConfig(AppConfig):
    """Money: the only app that writes amounts."""

    name = "billing"
    verbose_name = _("Billing")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Name the rows for people, keep the database's guards in place, handle webhooks."""
        from billing import handlers, triggers  # the apps are ready only now

        naming.name(self)
        handlers.register()
        post_migrate.connect(triggers.install, sender=self)
