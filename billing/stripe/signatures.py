"""Whether a webhook comes from Stripe: its signature over the raw bytes."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

from django.conf import settings

from billing.stripe import client, objects

# How far the sender's clock may be from ours, in seconds, in both directions.
TOLERANCE = 300


class SignatureError(Exception):
    """Not signed by Stripe with one of our secrets, or not now, or not an event."""


def secrets() -> list[str]:
    """Return the secrets that are accepted; the fake has one that nobody else can know."""
    if client.is_fake():
        made = hmac.new(settings.SECRET_KEY.encode(), b"fake stripe webhook", hashlib.sha256)
        return [f"whsec_{made.hexdigest()}"]
    return list(settings.STRIPE_WEBHOOK_SECRETS)


def sign(payload: bytes, secret: str, at: int | None = None) -> str:
    """Return the header that Stripe would send with these bytes."""
    import stripe

    return str(
        stripe.WebhookSignature.generate_signature_header(payload.decode(), secret, timestamp=at)
    )


def verify(payload: bytes, header: str) -> objects.Event:
    """Return the event of a webhook.

    Args:
        payload: The body, exactly as it came.
        header: `Stripe-Signature`.

    Raises:
        SignatureError: It is not to be believed.
    """
    import stripe

    from billing.stripe import convert_connect

    if not any(_is_signed(payload, header, secret) for secret in secrets()):
        raise SignatureError("No signature of ours matches.")
    try:
        # PostgreSQL's JSON cannot hold this one character.
        raw = json.loads(payload.replace(b"\\u0000", b""))
        return convert_connect.event(stripe.Event.construct_from(raw, None))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise SignatureError("The body is not an event of API version 1.") from error


def _is_signed(payload: bytes, header: str, secret: str) -> bool:
    import stripe

    try:
        stripe.WebhookSignature.verify_header(payload, header, secret, TOLERANCE)
        # The SDK believes a time that is yet to come.
        sent_at = int(dict(part.split("=", 1) for part in header.split(",")).get("t", "0"))
    except (stripe.SignatureVerificationError, ValueError):
        return False
    return sent_at <= time.time_ns() // 1_000_000_000 + TOLERANCE
