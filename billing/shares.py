"""The publisher's part of a charge."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from billing.models import ShareVersion


def current() -> ShareVersion:
    """Return the share that applies now; the site's own on first use."""
    found = ShareVersion.objects.filter(effective_from__lte=timezone.now()).first()
    if found is None:
        found = ShareVersion.objects.create(publisher_bps=settings.PUBLISHER_SHARE_BPS)
    return found
