"""The gateway: hot paths to their own door, everything else to Django."""

from __future__ import annotations

import asyncio
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maas_site.settings")

from typing import Any

import django
from django.conf import settings
from django.core.signals import request_finished
from django.db import connections

from maas_site.pages import PagesHandler

django.setup(set_prefix=False)
django_application = PagesHandler(settings.PAGES_AT_ONCE)

from inference import asgi as hot  # noqa: E402  (needs the settings)
from inference import dispatch, garbage, lanes, stream_door  # noqa: E402
from inference.asgi import Receive, Scope, Send  # noqa: E402
from inference.batch_files import door  # noqa: E402
from inference.faces import plain_errors  # noqa: E402
from inference.metrics import flushing, traces  # noqa: E402
from maas_site import log_lines  # noqa: E402
from maas_site.middleware import request_id  # noqa: E402


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if plain_errors.wanted(scope):
        send = plain_errors.rewriting(send)
    face = hot.face_of(scope)
    if face is not None:
        about = _request_id(scope)
        scope["state"] = {"request_id": about}
        log_lines.request_id.set(about)
        await hot.application(face, scope, receive, send)
    elif door.is_upload(scope):
        scope["state"] = {"request_id": _request_id(scope)}
        await door.application(django_application, scope, receive, send)  # type: ignore[arg-type]  # same shape
    elif stream_door.is_stream(scope):
        await stream_door.application(django_application, scope, receive, send)  # type: ignore[arg-type]  # same shape
    else:
        await django_application(dict(scope), receive, send)  # type: ignore[arg-type]  # same shape


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return request_id(given.decode("latin-1"))


async def _lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop; in between what happens is counted."""
    while True:
        message = await receive()
        kind = message["type"].removeprefix("lifespan.")
        if kind == "startup":
            request_finished.connect(_close_connections)
            garbage.collect_rarely()
            flushing.start("gateway", [lanes.readings, dispatch.readings], traces.keep_in_thread)
        else:
            await asyncio.to_thread(flushing.stop)
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return


def _close_connections(**_: Any) -> None:
    """Close what a request's thread has opened: the thread ends with the request.

    Its connections would stay open until Python collects them. The doors above have threads of
    their own, which keep theirs.
    """
    connections.close_all()
