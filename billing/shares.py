"""The publisher's part of a charge."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from billing.models import ShareVersion
from catalog.models import MLModel


def current(model: MLModel | None = None) -> ShareVersion:
    """Return the share that applies now to runs of a model: its own, its publisher's, or the
    site's, which is made on first use. Without a model (a training) the site's.
    """
    wanted = Q(publisher=None, model=None)
    if model is not None:
        wanted |= Q(model=model) | Q(publisher=model.owner_id, model=None)
    found = ShareVersion.objects.filter(wanted, effective_from__lte=timezone.now())
    newest: dict[int, ShareVersion] = {}
    for share in found.order_by("effective_from", "id"):
        newest[_width(share)] = share
    if newest:
        return newest[min(newest)]
    return ShareVersion.objects.create(publisher_bps=settings.PUBLISHER_SHARE_BPS)


def _width(share: ShareVersion) -> int:
    return 0 if share.model_id else 1 if share.publisher_id else 2
