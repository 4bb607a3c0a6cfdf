"""The hot door: predictions in all their protocols, served before Django.

Django's middleware costs more than everything that is done here, and none of it is needed: no
session, no CSRF, no language. The tests of the API's errors go through this door as well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.db import DatabaseError, InterfaceError

from accounts import errors, keys, rate_headers
from accounts.authentication import bearer
from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.permissions import require_scope
from billing import caps
from inference import hangups, predictions
from inference.answers import Answer, dumps
from inference.asynchronous import answering
from inference.faces import face_for
from inference.faces.http import DirectFace, Face, Header, HttpAnswer, HttpRequest
from inference.metrics import counting, watching
from inference.predictions import Replay

logger = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 1_048_576


def face_of(scope: Scope) -> Face | DirectFace | None:
    """Return the face that serves a request; None: Django serves it."""
    if scope["type"] != "http":
        return None
    return face_for(scope["method"], scope["path"])


async def application(face: Face | DirectFace, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request, and count it."""
    began_ns = time.perf_counter_ns()
    status, answer = watching.GONE, None
    try:
        written, answer = await _serve(face, scope, receive, began_ns)
        if written is not None:
            await send_answer(send, written, scope["state"]["request_id"], receive)
            status = written.status
    finally:
        watching.served(scope["method"], scope["path"], status, began_ns, answer)


async def _serve(
    face: Face | DirectFace, scope: Scope, receive: Receive, began_ns: int
) -> tuple[HttpAnswer | None, Answer | None]:
    """Return what to send, None if the caller has gone; and the model's answer if it gave one."""
    request_id = scope["state"]["request_id"]
    try:
        return await _answer(face, scope, receive, began_ns)
    except MercatoError as error:
        return refusal(error, request_id), None
    except ConnectionError:
        return None, None
    except (DatabaseError, InterfaceError):
        logger.warning("request %s", request_id, exc_info=True)
        return refusal(errors.OverloadedError("The database is away."), request_id), None
    except Exception:  # the process's edge: the caller is told, the operator sees the traceback
        logger.exception("request %s", request_id)
        return refusal(MercatoError("Something went wrong on our side."), request_id), None


async def _answer(
    face: Face | DirectFace, scope: Scope, receive: Receive, began_ns: int
) -> tuple[HttpAnswer, Answer | None]:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    request = HttpRequest(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=await _read(headers, receive),
        request_id=scope["state"]["request_id"],
    )
    caller = await _caller(headers)
    if isinstance(face, DirectFace):
        return await hangups.answer_unless_gone(face.answer(request, caller), receive), None
    call = face.read(request, caller)
    if call.wish is not None:
        return await answering.answer(call, call.wish), None
    answer = await predictions.predict(call, began_ns)
    written = face.write(call, answer)
    whole = HttpAnswer(
        written.body,
        written.status,
        written.content_type,
        (*written.headers, *_headers_of(answer)),
    )
    return whole, answer if isinstance(answer, Answer) else None


async def _caller(headers: dict[str, str]) -> Caller:
    """Find out who calls."""
    secret = bearer(headers.get("authorization", ""))
    caller = keys.cached_caller(secret) or await predictions.in_database(keys.authenticate, secret)
    assert isinstance(caller, Caller)
    require_scope(caller, "predict")
    return caller


def _headers_of(answer: Answer | Replay) -> list[Header]:
    """What it cost, and what is left of the caps and limits."""
    found = [(b"mercato-cost", answer.cost_text.encode())]
    left: tuple[Header, ...] = ()
    if isinstance(answer, Replay):
        found.append((b"idempotent-replayed", b"true"))
    else:
        if answer.times is not None:
            found.append((b"server-timing", answer.times.header()))
        if answer.admission is not None:
            left = caps.headers(answer.admission)
    if answer.standing is not None:
        left = rate_headers.join(b", ", left, answer.standing.headers)
    return [*found, *left]


async def _read(headers: dict[str, str], receive: Receive) -> bytes:
    """Read the body, up to the limit."""
    too_large = errors.PayloadTooLargeError(f"The body is larger than {MAX_BODY_BYTES} bytes.")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise too_large
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    if message["type"] == "http.disconnect":
        raise ConnectionError
    return body


def refusal(error: MercatoError, request_id: str) -> HttpAnswer:
    """Return what a caller of the API is told of an error, and count it."""
    counting.event(counting.Refusal(error.code))
    extra = [(name.lower().encode(), value.encode()) for name, value in error.headers]
    if error.retry_after is not None:
        extra.append((b"retry-after", str(error.retry_after).encode()))
    if error.status_code == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    body = dumps(errors.body_of(error, request_id))
    return HttpAnswer(body, error.status_code, headers=tuple(extra))


async def send_answer(
    send: Send, answer: HttpAnswer, request_id: str, receive: Receive | None = None
) -> None:
    """Send an answer; with `receive` one in chunks, until the caller goes away."""
    headers = [
        (b"content-type", answer.content_type),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        *answer.headers,
    ]
    if answer.chunks is None:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.chunks is not None and receive is not None:
        await hangups.send_unless_gone(answer.chunks, receive, send)
        return
    await send({"type": "http.response.body", "body": answer.body})
