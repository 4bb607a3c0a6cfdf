"""The types of events, and how one becomes a delivery to each endpoint that wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from inference.models import WebhookDelivery, WebhookEndpoint

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# A body above this is sent without its data, with the address where they are.
MAX_PAYLOAD_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event that endpoints may ask for."""

    name: str
    description: StrOrPromise


_types: dict[str, EventType] = {}


def register(name: str, description: StrOrPromise) -> str:
    """Make a type of event known; returns its name."""
    _types[name] = EventType(name, description)
    return name


def types() -> list[EventType]:
    """Return the known types, by name."""
    return [_types[name] for name in sorted(_types)]


PING = register("webhook.ping", _("A test that somebody asked for."))
BUDGET_ALERT = register("budget.alert", _("A budget has passed 50, 80, 95 or 100 %."))
PREDICTION_COMPLETED = register(
    "prediction.completed", _("An asynchronous prediction has ended, whichever way.")
)
BALANCE_LOW = register("balance.low", _("The balance has fallen below what an owner set."))
BATCH_ENDED = register("batch.ended", _("A batch file has succeeded or failed."))
BATCH_PAUSED = register("batch.paused", _("A batch file waits: for money, or for its model."))


def emit(
    organization_id: int,
    event_type: str,
    event_id: str,
    data: Mapping[str, Any],
    *,
    occurred_at: datetime | None = None,
    link: str = "",
    endpoint_id: UUID | None = None,
) -> int:
    """Make a delivery per endpoint that wants the event, once per `event_id`; returns how many.

    Inside the transaction of whatever happened, or of the mark that it was announced.

    Args:
        endpoint_id: The only endpoint that is told, whatever events it asks for.
        link: The path of the site where the data can be read, if they are too large to send.
    """
    if event_type not in _types:
        raise ValueError(f"{event_type!r} is not a registered event.")
    endpoints = WebhookEndpoint.objects.filter(organization_id=organization_id, is_active=True)
    if endpoint_id is None:
        wanted = [one for one in endpoints if not one.events or event_type in one.events]
    else:
        wanted = [one for one in endpoints if one.pk == endpoint_id]
    if not wanted:
        return 0
    body = payload(event_type, event_id, data, occurred_at=occurred_at, link=link)
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(endpoint=one, event_id=event_id, type=event_type, payload=body)
            for one in wanted
        ],
        ignore_conflicts=True,
    )
    return len(wanted)


def payload(
    event_type: str,
    event_id: str,
    data: Mapping[str, Any],
    *,
    occurred_at: datetime | None = None,
    link: str = "",
) -> str:
    """Write the body of an event."""
    event = {
        "id": event_id,
        "type": event_type,
        "timestamp": occurred_at or datetime.now(UTC),
        "data": data,
    }
    body = orjson.dumps(event)
    if len(body) > MAX_PAYLOAD_BYTES:
        url = f"{settings.PUBLIC_URL}{link}" if link else None
        body = orjson.dumps({**event, "data": {"is_too_large": True, "url": url}})
    return body.decode()
