"""Where Stripe's webhooks arrive."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts.errors import PayloadTooLargeError
from billing import webhooks
from billing.stripe import signatures


@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Store an event and say thanks; what it means is worked out later.

    A body that is not signed gets 400, one that is too large 413. If it cannot be stored, the
    failure is Stripe's signal to send it again.
    """
    if not signatures.secrets():
        return _text("webhook_not_configured", 503)
    if int(request.headers.get("Content-Length") or 0) > webhooks.MAX_BYTES:
        return _text("payload_too_large", 413)
    try:
        webhooks.receive(request.body, request.headers.get("Stripe-Signature", ""))
    except signatures.SignatureError:
        return _text("bad_signature", 400)
    except PayloadTooLargeError:
        return _text("payload_too_large", 413)
    return _text("ok", 200)


def _text(words: str, status: int) -> HttpResponse:
    return HttpResponse(words, status=status, content_type="text/plain")
