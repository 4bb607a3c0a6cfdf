"""Sends what waits, again and again for three days; what an endpoint does harms no other.

A delivery is claimed by a compare-and-set update before it is sent and marked after; who dies in
between leaves it to be sent again. So a receiver may see an event twice, with the same id.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts.vault import VaultError
from inference.metrics import counting, families
from inference.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from inference.webhooks import endpoints, sending, signing
from inference.webhooks.sending import Result

State = WebhookDelivery.State
# Seconds after each failed attempt; a tenth is added or taken at random.
SCHEDULE = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_ATTEMPTS = len(SCHEDULE) + 1
# A receiver that has failed for so long, and lets an event run out of attempts, is given up.
DISABLE_AFTER = timedelta(days=3)
KEPT = timedelta(days=30)
_CLAIM = timedelta(seconds=120)
_ROUND = 64
_PER_ENDPOINT = 4
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Parcel:
    """A claimed delivery, with all that is needed to send it without the database."""

    delivery: WebhookDelivery
    secrets: tuple[str, ...]


def send_due() -> int:
    """Send what is due; returns how many were attempted. Waits for the slowest of the round."""
    now = timezone.now()
    groups = _claim(now)
    attempted = 0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="webhook") as pool:
        for done in as_completed([pool.submit(_send_group, group) for group in groups]):
            for parcel, result in done.result():
                if result is None:
                    _put_back(parcel.delivery)
                else:
                    attempted += 1
                    record(parcel, result)
    return attempted


def _claim(now: datetime) -> list[list[Parcel]]:
    """Claim what is due, a few per endpoint: one with many must not keep the others waiting."""
    due = WebhookDelivery.objects.filter(
        state=State.PENDING, next_attempt_at__lte=now, endpoint__is_active=True
    ).select_related("endpoint__organization")
    groups: dict[object, list[Parcel]] = defaultdict(list)
    for delivery in due.order_by("next_attempt_at", "pk")[: 4 * _ROUND]:
        group = groups[delivery.endpoint_id]
        if len(group) >= _PER_ENDPOINT or sum(map(len, groups.values())) >= _ROUND:
            continue
        claimed = WebhookDelivery.objects.filter(
            pk=delivery.pk, state=State.PENDING, next_attempt_at=delivery.next_attempt_at
        ).update(attempts=F("attempts") + 1, next_attempt_at=now + _CLAIM)
        if claimed:
            delivery.attempts += 1
            group.append(Parcel(delivery, _secrets(delivery.endpoint, now)))
    return [group for group in groups.values() if group]


def _secrets(endpoint: WebhookEndpoint, now: datetime) -> tuple[str, ...]:
    try:
        return tuple(endpoints.secrets_of(endpoint, now))
    except VaultError:
        return ()


def _send_group(parcels: Sequence[Parcel]) -> list[tuple[Parcel, Result | None]]:
    """Send to one endpoint, one after the other; after a failure the others wait for later."""
    found: list[tuple[Parcel, Result | None]] = []
    has_failed = False
    for parcel in parcels:
        result = None if has_failed else _send(parcel)
        has_failed = has_failed or (result is not None and bool(result.failure))
        found.append((parcel, result))
    return found


def _send(parcel: Parcel) -> Result:
    if not parcel.secrets:
        return Result("secret_unreadable")
    delivery = parcel.delivery
    # The instant of this attempt: receivers refuse what is old.
    timestamp = int(timezone.now().timestamp())
    headers = signing.headers(parcel.secrets, delivery.event_id, timestamp, delivery.payload)
    return sending.post(delivery.endpoint.url, delivery.payload, headers)


def _put_back(delivery: WebhookDelivery) -> None:
    """Give up a claim without an attempt."""
    # Unless it was asked for anew in the meantime.
    WebhookDelivery.objects.filter(pk=delivery.pk, state=State.PENDING, attempts__gt=0).update(
        attempts=F("attempts") - 1, next_attempt_at=timezone.now() + timedelta(seconds=SCHEDULE[0])
    )


def record(parcel: Parcel, result: Result) -> None:
    """Write down what became of an attempt, and when the next one is."""
    counting.add(families.WEBHOOKS, (result.failure or "delivered",))
    now, delivery = timezone.now(), parcel.delivery
    with transaction.atomic():
        # Its endpoint may have been deleted, and this with it.
        if WebhookDelivery.objects.select_for_update().filter(pk=delivery.pk).exists():
            _log(parcel, result, now)
            _mark(delivery, result, now)


def _log(parcel: Parcel, result: Result, now: datetime) -> None:
    WebhookAttempt.objects.create(
        delivery=parcel.delivery,
        attempted_at=now,
        status=result.status,
        failure=result.failure,
        milliseconds=result.milliseconds,
        excerpt=result.excerpt,
        secret_ids=[signing.secret_id(each) for each in parcel.secrets],
    )


def _mark(delivery: WebhookDelivery, result: Result, now: datetime) -> None:
    mine = WebhookDelivery.objects.filter(pk=delivery.pk, state=State.PENDING)
    endpoint = WebhookEndpoint.objects.filter(pk=delivery.endpoint_id)
    if not result.failure:
        mine.update(failure="", state=State.DELIVERED)
        endpoint.exclude(failing_since=None).update(failing_since=None)
        return
    endpoint.filter(failing_since=None).update(failing_since=now)
    is_over = delivery.attempts >= MAX_ATTEMPTS or result.failure == "gone"
    if is_over:
        mine.update(failure=result.failure, state=State.FAILED)
        _disable_if_hopeless(delivery, result, now)
    else:
        mine.update(failure=result.failure, next_attempt_at=now + _wait(delivery.attempts))


def _disable_if_hopeless(delivery: WebhookDelivery, result: Result, now: datetime) -> None:
    endpoint = (
        WebhookEndpoint.objects.select_related("organization")
        .filter(pk=delivery.endpoint_id)
        .first()
    )
    if endpoint is None:
        return
    if result.failure == "gone":
        endpoints.disable(endpoint, WebhookEndpoint.Disabled.GONE)
    elif endpoint.failing_since and now - endpoint.failing_since >= DISABLE_AFTER:
        endpoints.disable(endpoint, WebhookEndpoint.Disabled.FAILING)


def _wait(attempts: int) -> timedelta:
    """How long after an attempt that failed the next one comes, give or take a tenth."""
    seconds = SCHEDULE[min(attempts, len(SCHEDULE)) - 1]
    tenth = seconds * 100
    return timedelta(milliseconds=seconds * 1000 - tenth + secrets.randbelow(2 * tenth + 1))


def redeliver(delivery: WebhookDelivery) -> WebhookDelivery:
    """Send an event again from the first attempt on, whatever became of it; the same event id."""
    WebhookDelivery.objects.filter(pk=delivery.pk).update(
        state=State.PENDING, attempts=0, next_attempt_at=timezone.now()
    )
    delivery.refresh_from_db()
    return delivery


def forget() -> int:
    """Delete deliveries that are not kept any longer, with their attempts; returns how many."""
    old = WebhookDelivery.objects.filter(created_at__lt=timezone.now() - KEPT)
    return old.delete()[1].get(WebhookDelivery._meta.label, 0)
