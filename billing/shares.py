"""The publisher's part of a charge: versions with a date from which they apply."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing.errors import ShareNotAllowedError
from billing.models import ShareVersion
from catalog.models import MLModel

ALL_BPS = 10_000


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


def add(
    publisher_bps: int,
    *,
    actor: User,
    reason: str,
    publisher: Organization | None = None,
    model: MLModel | None = None,
    effective_from: datetime | None = None,
) -> ShareVersion:
    """Add a share for all, for one publisher, or for one model; runs admitted before keep theirs.

    Args:
        publisher_bps: The publisher's part, in 1/100 of a percent.
        effective_from: Now if not given; a moment in the past means now.

    Raises:
        ShareNotAllowedError: The part is not between nothing and all, there is no reason, or the
            share is for both a publisher and a model.
    """
    if not 0 <= publisher_bps <= ALL_BPS:
        raise ShareNotAllowedError("A share is between 0 and 100 percent.", param="publisher_bps")
    if not reason.strip():
        raise ShareNotAllowedError("A new share needs a reason.", param="reason")
    if publisher is not None and model is not None:
        raise ShareNotAllowedError("A share is for a publisher or for a model, not for both.")
    now = timezone.now()
    with transaction.atomic():
        added = ShareVersion.objects.create(
            publisher=publisher,
            model=model,
            publisher_bps=publisher_bps,
            effective_from=max(effective_from or now, now),
            created_by=actor,
            reason=reason[:500],
        )
        audit.record(
            actor,
            "share.added",
            added,
            organization=publisher or (model.owner if model else None),
            reason=reason,
            details={
                "bps": publisher_bps,
                "model": model.path if model else None,
                "effective_from": added.effective_from.isoformat(),
            },
        )
    return added
