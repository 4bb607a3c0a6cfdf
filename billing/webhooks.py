"""What Stripe tells us: stored once, answered at once, handled until it succeeds.

"Seen" is not "done": an event counts as handled only in the transaction of its effect. Handlers
ask Stripe for the object's state as it is now, so order, repetition and age do not matter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError, PayloadTooLargeError
from accounts.models import User
from billing.models import StripeEvent
from billing.stripe import client, objects, signatures
from billing.stripe.errors import RejectedError, StripeCallError

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000
MAX_ATTEMPTS = 12
# Longer than a fetch may take: three attempts of 15 seconds, and sleeps.
_LEASE = timedelta(seconds=120)
_LONGEST_WAIT_SECONDS = 3600
_BACKFILL = timedelta(days=3)
_TYPES_PER_LIST = 20
_ERROR_MAX = 500

Facts = TypeVar("Facts")
State = StripeEvent.State


class QuarantinedError(Exception):
    """The event must not have an effect, now or later: it goes to the operator at once."""


@dataclass(frozen=True, slots=True)
class Handler:
    """How an event takes effect: `fetch` asks Stripe, `apply` writes, in one transaction."""

    fetch: Callable[[StripeEvent], Any]
    apply: Callable[[StripeEvent, Any], None]


HANDLERS: dict[str, list[Handler]] = {}


def handles(
    *types: str, fetch: Callable[[StripeEvent], Facts]
) -> Callable[[Callable[[StripeEvent, Facts], None]], Callable[[StripeEvent, Facts], None]]:
    """Register the decorated function as what these types of events do.

    The function gets the event and what `fetch` returned. It runs in the transaction that also
    marks the event as done, so it must not talk to the network, and need not fear half an effect.
    Several functions may handle one type: all take effect together.

    Args:
        types: Such as `checkout.session.completed`.
        fetch: Asks Stripe for the object as it is now, outside the transaction.
    """

    def add(apply: Callable[[StripeEvent, Facts], None]) -> Callable[[StripeEvent, Facts], None]:
        for each in types:
            HANDLERS.setdefault(each, []).append(Handler(fetch, apply))
        return apply

    return add


def receive(payload: bytes, signature: str) -> StripeEvent | None:
    """Store an event that has come in.

    Args:
        payload: The body, exactly as it came.
        signature: The header `Stripe-Signature`.

    Returns:
        The event, or None if it was known already.

    Raises:
        PayloadTooLargeError: More than `MAX_BYTES`.
        SignatureError: It is not to be believed.
    """
    if len(payload) > MAX_BYTES:
        raise PayloadTooLargeError(f"An event has at most {MAX_BYTES} bytes.")
    return _store(signatures.verify(payload, signature))


def _store(event: objects.Event) -> StripeEvent | None:
    # Test events never become money, and the other way round.
    is_ours = event.livemode == client.is_live()
    stored, is_new = StripeEvent.objects.get_or_create(
        pk=event.id,
        defaults={
            "type": event.type,
            "account": event.account,
            "livemode": event.livemode,
            "api_version": event.api_version,
            "object_type": event.object_type,
            "object_id": event.object_id,
            "payload": event.payload,
            "created_at": event.created_at,
            "state": State.RECEIVED if is_ours else State.DEAD,
            "last_error": "" if is_ours else "The event is of the other mode: live or test.",
        },
    )
    if is_new and not is_ours:
        log.warning("stripe event %s is of the other mode: live or test", event.id)
    return stored if is_new else None


def handle_due(limit: int = 100) -> int:
    """Handle what waits, oldest first; returns how many events are done.

    An event that fails is tried again later, and does not keep others waiting. After
    `MAX_ATTEMPTS` it is dead: an operator must look at it. While Stripe is away nothing dies.
    """
    now = timezone.now()
    due = StripeEvent.objects.filter(
        Q(next_attempt_at=None) | Q(next_attempt_at__lte=now), state=State.RECEIVED
    ).order_by("received_at")[:limit]
    return sum(_handle(event) for event in list(due) if _claim(event, now))


def _claim(event: StripeEvent, now: datetime) -> bool:
    """Take the event for this process; if it dies, the event is due again after the lease."""
    claimed = StripeEvent.objects.filter(
        pk=event.pk, state=State.RECEIVED, attempts=event.attempts
    ).update(attempts=F("attempts") + 1, next_attempt_at=now + _LEASE)
    event.attempts += 1
    return claimed == 1


def _handle(event: StripeEvent) -> bool:
    try:
        handlers = HANDLERS.get(event.type, [])
        facts = [handler.fetch(event) for handler in handlers]
        with transaction.atomic():
            # First the mark: whoever else handles the event waits here, and finds it done.
            if not _mark_done(event):
                return False
            for handler, fact in zip(handlers, facts, strict=True):
                handler.apply(event, fact)
    except QuarantinedError as error:
        _fail(event, error, is_final=True)
        return False
    except Exception as error:
        # The edge of the loop: one poisonous event must not stop the others.
        is_away = isinstance(error, StripeCallError) and not isinstance(error, RejectedError)
        _fail(event, error, is_final=not is_away and event.attempts >= MAX_ATTEMPTS)
        return False
    return True


def _mark_done(event: StripeEvent) -> bool:
    marked = StripeEvent.objects.filter(pk=event.pk, state=State.RECEIVED).update(
        state=State.DONE, handled_at=timezone.now(), next_attempt_at=None, last_error=""
    )
    return marked == 1


def _fail(event: StripeEvent, error: Exception, *, is_final: bool) -> None:
    wait = min(2 ** min(event.attempts, 20), _LONGEST_WAIT_SECONDS)
    text = f"{type(error).__name__}: {error}"[:_ERROR_MAX].replace("\x00", "")
    StripeEvent.objects.filter(pk=event.pk, state=State.RECEIVED).update(
        state=State.DEAD if is_final else State.RECEIVED,
        last_error=text,
        next_attempt_at=None if is_final else timezone.now() + timedelta(seconds=wait),
    )
    log.warning(
        "stripe event %s (%s) failed%s",
        event.pk,
        event.type,
        ", an operator must look at it" if is_final else "",
        exc_info=error,
    )


def retry(event: StripeEvent, *, actor: User | None, reason: str) -> None:
    """Let a dead event be handled again.

    Args:
        event: The event.
        actor: The operator.
        reason: Why it may succeed now.

    Raises:
        ConflictError: It is not dead, or of the other mode.
    """
    with transaction.atomic():
        revived = StripeEvent.objects.filter(
            pk=event.pk, state=State.DEAD, livemode=client.is_live()
        ).update(state=State.RECEIVED, attempts=0, next_attempt_at=None)
        if not revived:
            raise ConflictError("Only a dead event of the site's mode can be handled again.")
        audit.record(actor, "stripe_event.retried", event, reason=reason)


def backfill(since: datetime | None = None) -> int:
    """Ask Stripe for events whose webhook never came; returns how many there were.

    Args:
        since: Three days ago if not given; Stripe remembers thirty.
    """
    since = since or timezone.now() - _BACKFILL
    types = sorted(HANDLERS)
    count = 0
    for first in range(0, len(types), _TYPES_PER_LIST):
        some = types[first : first + _TYPES_PER_LIST]
        for event in client.gateway().list_events(since=since, types=some):
            count += _store(event) is not None
    return count


def deliver_fake(limit: int = 100) -> int:
    """Carry the fake's webhooks to ourselves, signed, as Stripe would over the network."""
    if not client.is_fake() or not settings.FAKE_STRIPE_FILE.exists():
        return 0
    post = client.fake().post
    deliveries = post.due(limit)
    for delivery in deliveries:
        secret = signatures.secrets()[0]
        try:
            receive(delivery.payload, signatures.sign(delivery.payload, secret))
        except (PayloadTooLargeError, signatures.SignatureError):
            # It would never be accepted, and must not keep the others waiting.
            log.exception("a webhook of the fake was refused: %s", delivery.type)
        post.acknowledge(delivery)
    return len(deliveries)
