"""What every page knows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from billing.stripe import client
from maas_site import dev_mail


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the names every template may use."""
    return {
        "public_url": settings.PUBLIC_URL,
        "show_mail": dev_mail.is_shown(request),
        "no_real_money": client.is_fake(),
        "trial_credit_nanos": settings.TRIAL_CREDIT_NANOS,
    }
