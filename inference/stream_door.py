"""Streams are served after Django has decided: a stream that Django serves itself keeps a thread
and a connection to the database for as long as it is open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from accounts.errors import OverloadedError
from inference import streams

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_KEY = "mercato.stream"
_TYPE = "text/event-stream"
# A proxy that collects the answer first would keep everything until the end.
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def respond(request: HttpRequest, frames: AsyncIterator[bytes]) -> HttpResponseBase:
    """Answer a request with a stream.

    Raises:
        OverloadedError: As many streams are open in this process as may.
    """
    if streams.watchers() >= settings.MAX_STREAMS:
        raise OverloadedError("Too many event streams are open.")
    handover = getattr(request, "scope", {}).get(_KEY)
    if handover is None:
        return StreamingHttpResponse(frames, content_type=_TYPE, headers=_HEADERS)
    handover.frames = frames
    return HttpResponse(content_type=_TYPE, headers=_HEADERS)


class _Handover:
    """What Django's answer becomes: sent as it is, or the head of a stream."""

    def __init__(self, send: Send) -> None:
        self.frames: AsyncIterator[bytes] | None = None
        self.head: Message | None = None
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass Django's answer on; of a stream only its head is kept."""
        if self.frames is None:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self.head = message


def is_stream(scope: Scope) -> bool:
    """Whether the request may be for a stream."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    path: str = scope["path"]
    return path.endswith("/events")


async def application(django: Application, scope: Scope, receive: Receive, send: Send) -> None:
    """Let Django serve a request; if it hands over a stream, serve that."""
    handover = _Handover(send)
    await django({**scope, _KEY: handover}, receive, handover.send)
    if handover.frames is None or handover.head is None:
        return
    sending = asyncio.create_task(_send_all(handover.head, handover.frames, send))
    leaving = asyncio.create_task(_left(receive))
    await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    for task in (sending, leaving):
        task.cancel()
    # A client that has gone makes sending fail, in its own way in each server.
    await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send_all(head: Message, frames: AsyncIterator[bytes], send: Send) -> None:
    headers = [pair for pair in head["headers"] if pair[0].lower() != b"content-length"]
    await send({**head, "headers": headers})
    async with contextlib.aclosing(_generator(frames)) as opened:
        async for frame in opened:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _generator(frames: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    assert isinstance(frames, AsyncGenerator)
    return frames


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
