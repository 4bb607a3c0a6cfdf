"""Who: users, organizations, roles, keys."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class AccountsConfig(AppConfig):
    """Who: users, organizations, roles, keys."""

    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Tell the API description about keys, and note the language of who signs in."""
        from accounts import languages, openapi  # noqa: F401

        user_logged_in.connect(languages.note_sign_in)
