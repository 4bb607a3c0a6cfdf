"""The gateway of this process: Stripe itself if there is a key, else `FakeStripe`."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    import stripe

    from billing.stripe.fake import FakeStripe
    from billing.stripe.gateway import StripeGateway

# The fake accepts any key; this one is never sent anywhere.
FAKE_KEY = "sk_test_fake"
API_VERSION = "2026-10-28.endive"

_lock = threading.Lock()
_gateways: dict[tuple[int, str, str], StripeGateway] = {}
_fakes: dict[str, FakeStripe] = {}


def is_fake() -> bool:
    """Whether no real money moves: pages must say so."""
    return not settings.STRIPE_SECRET_KEY


def is_live() -> bool:
    """Whether the key is for real money; a test key moves none either."""
    return settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))


def gateway() -> StripeGateway:
    """Return the gateway; made once per process, after it was forked.

    Sessions of the HTTP client are per thread, so threads share the gateway.
    """
    # Half a second of imports that most processes never need.
    from billing.stripe.gateway import StripeGateway

    name = (os.getpid(), settings.STRIPE_SECRET_KEY, str(settings.FAKE_STRIPE_FILE))
    with _lock:
        if name not in _gateways:
            _gateways[name] = StripeGateway(_sdk())
        return _gateways[name]


def fake() -> FakeStripe:
    """Return what stands for Stripe; what it holds is in a file that all processes share.

    Raises:
        RuntimeError: There is a key: nothing stands for Stripe.
    """
    from billing.stripe.fake import FakeStripe

    if not is_fake():
        raise RuntimeError("This site talks to Stripe itself.")
    name = str(settings.FAKE_STRIPE_FILE)
    if name not in _fakes:
        _fakes.setdefault(name, FakeStripe(settings.FAKE_STRIPE_FILE, settings.PUBLIC_URL))
    return _fakes[name]


def _sdk() -> stripe.StripeClient:
    import stripe

    stripe.enable_telemetry = False
    if is_fake():
        # The fake fails only where a test says so: the test wants to see it.
        http: stripe.HTTPClient = fake()
        key, retries = FAKE_KEY, 0
    else:
        http = stripe.RequestsClient(timeout=settings.STRIPE_TIMEOUT)
        key, retries = settings.STRIPE_SECRET_KEY, 2
    return stripe.StripeClient(
        key, http_client=http, max_network_retries=retries, stripe_version=API_VERSION
    )
