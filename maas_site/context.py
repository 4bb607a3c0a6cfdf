"""What every page knows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the names every template may use."""
    return {
        "public_url": settings.PUBLIC_URL,
        "show_mail": settings.IS_LOOPBACK and not settings.EMAIL_HOST,
        "trial_credit_nanos": settings.TRIAL_CREDIT_NANOS,
    }
