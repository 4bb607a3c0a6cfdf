"""Uploads before Django: who may send one, and how much; a body that nobody may send is not read.

Django writes a body to disk before any of its code is asked. So the key, or the session, is
looked at first, and the bytes are counted as they come.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.db import DatabaseError, InterfaceError

from accounts import errors, keys
from accounts.authentication import bearer
from accounts.errors import MercatoError
from accounts.permissions import require_scope
from inference import asgi

logger = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

API_PATH = "/v1/batches"
PAGE_PATH = "/console/batches/new"
# What a form has besides its file.
_FORM_BYTES = 64 * 1024


def is_upload(scope: Scope) -> bool:
    """Whether the request brings a file."""
    is_post = scope["type"] == "http" and scope["method"] == "POST"
    return is_post and scope["path"] in {API_PATH, PAGE_PATH}


async def application(django: Application, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass an upload on to Django, up to the largest file."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    counted = _Counted(receive, settings.BATCH_MAX_BYTES + _FORM_BYTES)
    refused: MercatoError | None = None
    try:
        await sync_to_async(_admit)(scope["path"], headers)
        counted.require(headers.get("content-length", ""))
    except MercatoError as error:
        refused = error
    except (DatabaseError, InterfaceError):
        logger.warning("upload %s", scope["state"]["request_id"], exc_info=True)
        refused = errors.OverloadedError("The database is away.")
    if refused is not None:
        await _refuse(send, scope, refused)
        return
    await django(scope, counted.receive, send)
    if counted.is_over:
        await _refuse(send, scope, counted.error)


class _Counted:
    """Counts the bytes of a body; past the limit it says that the client has gone."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left = receive, limit
        self.is_over = False
        self.error = errors.PayloadTooLargeError(
            f"A batch file has at most {settings.BATCH_MAX_BYTES} bytes."
        )

    def require(self, length: str) -> None:
        """Refuse a body that says itself that it is too large."""
        if length.isdecimal() and int(length[:20]) > self._left:
            raise self.error

    async def receive(self) -> Message:
        """Return the next part of the body."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left >= 0:
            return message
        # Django gives up at once and answers nothing.
        self.is_over = True
        return {"type": "http.disconnect"}


def _admit(path: str, headers: dict[str, str]) -> None:
    """Look at the key, or whether anybody is signed in; Django's views look again.

    Raises:
        MercatoError: Nobody may send this.
    """
    if path == API_PATH:
        require_scope(keys.authenticate(bearer(headers.get("authorization", ""))), "predict")
        return
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        cookie = None
    store = import_module(settings.SESSION_ENGINE).SessionStore
    if cookie is None or SESSION_KEY not in store(cookie.value):
        raise errors.AuthenticationError("Sign in to upload a file.")


async def _refuse(send: Send, scope: Scope, error: MercatoError) -> None:
    if scope["path"] == PAGE_PATH:
        # The page says it; one who is not signed in is asked to.
        where = f"{PAGE_PATH}?refused={error.code}".encode()
        gone = [(b"location", where), (b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 303, "headers": gone})
        await send({"type": "http.response.body", "body": b""})
        return
    request_id = scope["state"]["request_id"]
    answer = asgi.refusal(error, request_id)
    # What is left of the body is not read: the connection cannot be used again.
    answer = replace(answer, headers=(*answer.headers, (b"connection", b"close")))
    await asgi.send_answer(send, answer, request_id)
