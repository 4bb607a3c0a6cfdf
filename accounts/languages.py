"""The language in which a person gets mail: the one they last used the site in."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import translation

from accounts.models import User


def note(user: User, code: str) -> None:
    """Remember a person's language, if the site has it."""
    if code != user.language and code in dict(settings.LANGUAGES):
        User.objects.filter(pk=user.pk).update(language=code)


def note_sign_in(sender: Any, user: User, request: HttpRequest | None, **_: Any) -> None:
    """Remember the language in which somebody signs in (Django's signal)."""
    if request is not None:
        note(user, translation.get_language() or "")
