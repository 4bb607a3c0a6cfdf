"""Endpoints: make, change, test, rotate, disable."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from accounts import audit, mail, vault
from accounts.errors import InvalidRequestError
from accounts.models import Organization, User
from billing.ids import uuid7
from inference.errors import TooManyWebhooksError
from inference.models import WebhookDelivery, WebhookEndpoint
from inference.webhooks import addresses, events, signing

MAX_ENDPOINTS = 20
# How long the secret before is still used after a rotation.
OVERLAP = timedelta(hours=24)


def create(
    organization: Organization,
    url: str,
    *,
    event_types: Sequence[str] = (),
    description: str = "",
    actor: User | None = None,
    via: str = "",
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint; its secret is returned here and shown once.

    Raises:
        WebhookUrlError, InvalidRequestError, TooManyWebhooksError: Nothing was made.
    """
    addresses.parse(url)
    _require_known(event_types)
    secret = signing.new_secret()
    with transaction.atomic():
        # Whoever makes another at the same moment waits here.
        Organization.objects.select_for_update().get(pk=organization.pk)
        if WebhookEndpoint.objects.filter(organization=organization).count() >= MAX_ENDPOINTS:
            raise TooManyWebhooksError(f"An organization has at most {MAX_ENDPOINTS} webhooks.")
        endpoint = WebhookEndpoint.objects.create(
            organization=organization,
            url=url,
            description=description,
            events=sorted(set(event_types)),
            secret=vault.seal(secret),
        )
        _record(actor, "webhook.created", endpoint, via=via)
    return endpoint, secret


def update(
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    event_types: Sequence[str] | None = None,
    description: str | None = None,
    is_active: bool | None = None,
    actor: User | None = None,
    via: str = "",
) -> WebhookEndpoint:
    """Change an endpoint; what is None stays.

    Raises:
        WebhookUrlError, InvalidRequestError: Nothing was changed.
    """
    if url is not None:
        addresses.parse(url)
        endpoint.url = url
    if event_types is not None:
        _require_known(event_types)
        endpoint.events = sorted(set(event_types))
    if description is not None:
        endpoint.description = description
    if is_active is not None:
        endpoint.is_active = is_active
        endpoint.disabled_reason = "" if is_active else WebhookEndpoint.Disabled.OWNER
        endpoint.failing_since = None
    with transaction.atomic():
        endpoint.save(
            update_fields=[
                *("url", "events", "description", "is_active", "disabled_reason"),
                *("failing_since", "updated_at"),
            ]
        )
        _record(actor, "webhook.changed", endpoint, via=via)
    return endpoint


def delete(endpoint: WebhookEndpoint, *, actor: User | None = None, via: str = "") -> None:
    """Delete an endpoint with its deliveries."""
    with transaction.atomic():
        _record(actor, "webhook.deleted", endpoint, via=via)
        endpoint.delete()


def rotate(
    endpoint: WebhookEndpoint,
    *,
    overlap: timedelta = OVERLAP,
    actor: User | None = None,
    via: str = "",
) -> str:
    """Give an endpoint a new secret, returned here; the old one signs as well for a while.

    Args:
        overlap: How long; zero if the old one is known to somebody else.
    """
    secret = signing.new_secret()
    with transaction.atomic():
        locked = WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
        locked.old_secret = locked.secret if overlap else ""
        locked.old_secret_until = timezone.now() + overlap if overlap else None
        locked.secret = vault.seal(secret)
        locked.save(update_fields=["secret", "old_secret", "old_secret_until", "updated_at"])
        _record(actor, "webhook.rotated", endpoint, via=via)
    return secret


def secrets_of(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    """Return the secrets that sign now, the newest first."""
    sealed = [endpoint.secret]
    if endpoint.old_secret and endpoint.old_secret_until and now < endpoint.old_secret_until:
        sealed.append(endpoint.old_secret)
    return [vault.unseal(each) for each in sealed]


def secret_ids(endpoint: WebhookEndpoint) -> list[str]:
    """Return which secrets sign now, the newest first; none if they cannot be read."""
    try:
        return [signing.secret_id(each) for each in secrets_of(endpoint, timezone.now())]
    except vault.VaultError:
        return []


def ping(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """Send a test event, also to an endpoint that did not ask for that type."""
    delivery_id = uuid7()
    event_id = f"evt_ping_{delivery_id.hex}"
    return WebhookDelivery.objects.create(
        id=delivery_id,
        endpoint=endpoint,
        event_id=event_id,
        type=events.PING,
        payload=events.payload(events.PING, event_id, {"webhook": str(endpoint.pk)}),
    )


def disable(endpoint: WebhookEndpoint, reason: str) -> bool:
    """Stop sending to a receiver that is gone, and tell the owners; False if it was so already."""
    with transaction.atomic():
        changed = WebhookEndpoint.objects.filter(pk=endpoint.pk, is_active=True).update(
            is_active=False, disabled_reason=reason, updated_at=timezone.now()
        )
        if not changed:
            return False
        _record(None, "webhook.disabled", endpoint, reason=reason)
        mail.queue(
            f"webhook_disabled:{endpoint.pk.hex}:{int(timezone.now().timestamp())}",
            mail.owners(endpoint.organization),
            "inference/email/webhook_disabled",
            {
                "organization": endpoint.organization.slug,
                "url": endpoint.url,
                "is_gone": reason == WebhookEndpoint.Disabled.GONE,
                "endpoint": str(endpoint.pk),
            },
        )
    return True


def _require_known(event_types: Sequence[str]) -> None:
    known = [each.name for each in events.types()]
    for name in event_types:
        if name not in known:
            raise InvalidRequestError(
                f"Unknown event {name[:60]!r}. There are: {', '.join(known)}.", param="events"
            )


def _record(
    actor: User | None,
    action: str,
    endpoint: WebhookEndpoint,
    *,
    reason: str = "",
    via: str = "",
) -> None:
    audit.record(
        actor, action, endpoint, organization=endpoint.organization, reason=reason, via=via
    )
