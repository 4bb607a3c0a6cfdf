"""Who: users, organizations, roles, keys."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who: users, organizations, roles, keys."""

    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Tell the API description about keys."""
        from accounts import openapi  # noqa: F401
