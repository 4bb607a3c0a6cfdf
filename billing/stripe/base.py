"""What all areas of the gateway share: the client, and our own idempotency keys."""

from __future__ import annotations

from collections.abc import Mapping

import stripe
from stripe import RequestOptions

# Stripe compares at most this much of a key.
KEY_MAX = 255
PAGE = 100


class Area:
    """A part of the gateway; holds the SDK's client, which is safe to share between threads."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._v1 = client.v1


def once(key: str) -> RequestOptions:
    """Return the options of a POST that may be sent again under the same key.

    Raises:
        ValueError: No key, or a longer one than Stripe compares: a caller's mistake.
    """
    if not 0 < len(key) <= KEY_MAX:
        raise ValueError(f"an idempotency key has 1 to {KEY_MAX} characters, not {len(key)}")
    return {"idempotency_key": key}


def plain(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return labels as the SDK wants them."""
    return dict(metadata)
