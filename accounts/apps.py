"""Who: users, organizations, roles, keys."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.utils.translation import gettext_lazy as _

from accounts import naming


class AccountsConfig(AppConfig):
    """Who: users, organizations, roles, keys."""

    name = "accounts"
    verbose_name = _("Accounts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Name the rows for people, describe keys in the API, note the language of who signs in."""
        from accounts import languages, openapi  # noqa: F401

        naming.name(self)
        user_logged_in.connect(languages.note_sign_in)
