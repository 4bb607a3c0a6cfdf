"""The gateway: hot paths to their own door, everything else to Django."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maas_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from inference import asgi as hot  # noqa: E402  (needs the settings)
from inference.asgi import Receive, Scope, Send  # noqa: E402
from maas_site.middleware import request_id  # noqa: E402


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif hot.is_hot(scope):
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        scope["state"] = {"request_id": request_id(given.decode("latin-1"))}
        await hot.application(scope, receive, send)
    else:
        await django_application(dict(scope), receive, send)  # type: ignore[arg-type]  # same shape


async def _lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop: there is nothing to prepare."""
    while True:
        message = await receive()
        kind = message["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return
