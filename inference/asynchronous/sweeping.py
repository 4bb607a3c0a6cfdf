"""Puts right what dead workers, lost rings and passed deadlines left behind; may run twice."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Exists, F, Min, OuterRef
from django.db.models.functions import Now

from billing.models import Hold
from inference.asynchronous import doorbell, endings, events
from inference.asynchronous.claims import MAX_ATTEMPTS, mine
from inference.models import Prediction

logger = logging.getLogger(__name__)
Status = Prediction.Status
_ROUND = 500


def sweep() -> None:
    """Requeue what was lost, end what is late, ring if rows wait."""
    _requeue_lost()
    _end_late()
    if Prediction.objects.filter(turn__isnull=False).exists():
        doorbell.ring()


def _requeue_lost() -> None:
    lost = Prediction.objects.with_version().filter(lease_until__lt=Now())
    for prediction in lost.order_by("lease_until")[:_ROUND]:
        logger.warning("Prediction %s lost its worker %s.", prediction.pk, prediction.lease_owner)
        if prediction.attempt >= MAX_ATTEMPTS:
            endings.give_up(mine(prediction), prediction, "worker_lost")
        elif requeue(prediction):
            events.tell([prediction])


def requeue(prediction: Prediction) -> bool:
    """Let a prediction wait again, before all others: it has waited already."""
    first: int | None = Prediction.objects.filter(turn__isnull=False).aggregate(turn=Min("turn"))[
        "turn"
    ]
    # A text is written anew: what is counted of it begins again.
    written = None if prediction.output_tokens is None else 0
    changed = mine(prediction).update(
        status=Status.QUEUED,
        turn=first or 0,
        lease_owner="",
        lease_until=None,
        output_tokens=written,
    )
    prediction.status, prediction.output_tokens = Status.QUEUED, written
    return bool(changed)


def _end_late() -> None:
    late = Prediction.objects.filter(turn__isnull=False, start_by__lte=Now())
    for prediction in late.order_by("start_by")[:_ROUND]:
        waiting = Prediction.objects.filter(pk=prediction.pk, status=Status.QUEUED)
        endings.give_up(waiting, prediction, "deadline_exceeded")


def end_abandoned() -> None:
    """End stored synchronous runs whose gateway died: their holds say that nothing was charged."""
    before = datetime.now(UTC) - timedelta(seconds=4 * settings.PREDICT_TIMEOUT_SECONDS)
    charged_or_open = Hold.objects.filter(
        pk=OuterRef("hold_id"), state__in=[Hold.State.AUTHORISED, Hold.State.CAPTURED]
    )
    gone = Prediction.objects.filter(
        ~Exists(charged_or_open), is_async=False, finished_at=None, created_at__lt=before
    )
    # With a key it may be tried again: see predictions._open.
    gone.exclude(idempotency_key="").delete()
    gone.filter(idempotency_key="").update(
        status=Status.FAILED, answer={"code": "worker_lost"}, finished_at=F("created_at")
    )
