"""A prediction is accepted: its money is set aside and its row is written, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max, Min

from accounts.errors import IdempotencyInProgressError, IdempotencyMismatchError, MercatoError
from billing import alerts, crashes, holds
from billing.holds import Admission
from billing.ids import uuid7
from billing.reservations import Reservation
from inference import predictions
from inference.asynchronous import doorbell, events, payloads
from inference.errors import QueueFullError, WebhookUrlError
from inference.generation.wanted import Wanted
from inference.models import Prediction, WebhookEndpoint

if TYPE_CHECKING:
    from inference.asynchronous.wishes import Wish
    from inference.inputs import Input
    from inference.predictions import Call
    from inference.versions import Served

# The hold outlives the longest wait by the time that all attempts may take.
HOLD_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A stored prediction.

    Attributes:
        is_new: False: an earlier request with the same id or Idempotency-Key made it.
        admission: What is left of the caps; None if it is not new.
    """

    prediction: Prediction
    is_new: bool
    admission: Admission | None = None


def accept(call: Call, wish: Wish, served: Served, checked: Input) -> Accepted:
    """Accept a prediction, once per id or Idempotency-Key; a worker runs it when its turn comes.

    Args:
        checked: The input, which fits the signature.

    Raises:
        MercatoError: What is wrong; then nothing is stored and nothing was charged.
    """
    earlier = _earlier(call)
    if earlier is not None:
        return Accepted(earlier, is_new=False)
    try:
        accepted = _store(call, wish, served, checked)
    except IntegrityError:
        # The same key or id came twice at once.
        earlier = _earlier(call)
        if earlier is None:
            raise
        return Accepted(earlier, is_new=False)
    except MercatoError as error:
        alerts.note_refusals([error])
        raise
    crashes.point("async.accepted")
    events.tell([accepted.prediction])
    doorbell.ring()
    return accepted


def _earlier(call: Call) -> Prediction | None:
    if call.prediction_id is not None:
        return _chosen(call, call.prediction_id)
    if not call.idempotency_key:
        return None
    found = (
        Prediction.objects.filter(
            organization_id=call.caller.organization_id, idempotency_key=call.idempotency_key
        )
        .select_related("model_version__model__owner")
        .first()
    )
    if found is None:
        return None
    if found.fingerprint != call.fingerprint:
        raise IdempotencyMismatchError(
            "This Idempotency-Key was used with another request.", param="Idempotency-Key"
        )
    if not found.is_async and not found.is_ended:
        raise IdempotencyInProgressError("The first request with this key still runs.")
    return found


def _chosen(call: Call, prediction_id: UUID) -> Prediction | None:
    found = Prediction.objects.with_version().filter(pk=prediction_id).first()
    if found is None:
        return None
    is_mine = found.organization_id == call.caller.organization_id
    # One answer for an id of one's own with another body and for an id of somebody else: a 404
    # would say that it is somebody's, because an id of nobody is accepted.
    if not is_mine or found.fingerprint != call.fingerprint:
        raise IdempotencyMismatchError("This id was used with another request.", param="id")
    return found


def _store(call: Call, wish: Wish, served: Served, checked: Input) -> Accepted:
    now = datetime.now(UTC)
    longest = timedelta(hours=settings.ASYNC_QUEUE_HOURS)
    if wish.start_within is not None:
        longest = min(longest, timedelta(seconds=wish.start_within))
    start_by = now + longest
    endpoint = _endpoint(call, wish)
    # A text is held for the longest answer that it may have.
    rows, most = checked.rows, checked.tokens()
    promise = predictions.promise_of(call, served, rows, most) if call.quote else None
    reservation = holds.prepare(
        call.caller,
        promise.plan if promise else served.terms_at(now).plan,
        share_version_id=promise.share_version_id if promise else served.share_version_id,
        quantities={"call": 1, "row": rows, "byte": call.input_bytes} | most,
        source=call.source,
        accepted_at=now,
        expires_at=start_by + HOLD_AFTER,
        model_version_id=served.version_id,
        request_id=call.request_id,
        ceiling_nanos=call.ceiling_nanos,
        quote_id=promise.quote_id if promise else None,
        hold_id=uuid7(),
    )
    with transaction.atomic():
        turn = _turn(call.caller.organization_id)
        admission = holds.reserve(reservation)
        prediction = _row(call, served, reservation, checked)
        prediction.turn, prediction.start_by, prediction.webhook = turn, start_by, endpoint
        prediction.expires_at = start_by + timedelta(hours=settings.PREDICTION_RETENTION_HOURS)
        payloads.put_input(prediction, call.stored_input)
        crashes.point("async.stored")
    return Accepted(Prediction.objects.with_version().get(pk=prediction.pk), True, admission)


def _row(call: Call, served: Served, reservation: Reservation, checked: Input) -> Prediction:
    return Prediction(
        id=call.prediction_id or uuid7(),
        organization_id=call.caller.organization_id,
        model_version_id=served.version_id,
        api_key_id=call.caller.api_key_id,
        user_id=call.caller.user_id,
        hold_id=reservation.hold_id,
        status=Prediction.Status.QUEUED,
        is_async=True,
        request_id=call.request_id,
        rows=checked.rows,
        input_bytes=call.input_bytes,
        input_tokens=checked.tokens().get("input_token", 0),
        output_tokens=0 if isinstance(checked, Wanted) else None,
        idempotency_key=call.idempotency_key,
        fingerprint=call.fingerprint,
    )


def _turn(organization_id: int) -> int:
    """Return a place in the queue that is fair among organizations.

    After one's own last one, but not before whoever is next now: an organization with many rows
    waits among its own, and one that comes with its first row does not wait for all of them.

    Raises:
        QueueFullError: The organization has as many rows waiting as it may.
    """
    waiting = Prediction.objects.filter(turn__isnull=False).order_by()
    mine = waiting.filter(organization=organization_id)
    next_turn: int | None = waiting.aggregate(turn=Min("turn"))["turn"]
    first: int | None = mine.aggregate(turn=Min("turn"))["turn"]
    last: int | None = mine.aggregate(turn=Max("turn"))["turn"]
    if first is not None and last is not None:
        # Turns of one organization follow each other: no rows have to be counted.
        if last - first + 1 >= settings.ASYNC_MAX_QUEUED:
            raise QueueFullError(f"{settings.ASYNC_MAX_QUEUED} predictions wait already.")
        return max(last + 1, next_turn or 0)
    return next_turn or 0


def _endpoint(call: Call, wish: Wish) -> WebhookEndpoint | None:
    if not wish.webhook:
        return None
    found = WebhookEndpoint.objects.filter(
        organization=call.caller.organization_id, url=wish.webhook, is_active=True
    ).first()
    if found is None:
        raise WebhookUrlError(
            "`webhook` is the address of one of your active webhooks: see POST /v1/webhooks.",
            param="webhook",
        )
    return found
