"""Errors as one text, for clients of the Open Inference Protocol that cannot read an object.

The protocol's own error is `{"error": "text"}`, and tritonclient puts whatever it finds there
behind a status: from an object it raises a TypeError that hides the message. So those clients get
everything that our object says in one line.
"""

from __future__ import annotations

import orjson

from inference.asgi import Scope, Send

# How the HTTP library of tritonclient names itself.
_READS_TEXT = b"gevent-http-client"


def wanted(scope: Scope) -> bool:
    """Whether a request wants its errors as text: by this header, or because of who sends it."""
    if not scope["path"].startswith("/v2"):
        return False
    headers = dict(scope["headers"])
    given: bytes = headers.get(b"mercato-errors", b"").strip().lower()
    if given:
        return given == b"text"
    return _READS_TEXT in headers.get(b"user-agent", b"")


def rewriting(send: Send) -> Send:
    """Return a `send` that turns the bodies of errors into text; all else passes."""
    start: dict[str, object] = {}
    body = b""

    async def rewrite(message: object) -> None:
        nonlocal body
        assert isinstance(message, dict)
        if message["type"] == "http.response.start" and message["status"] >= 400:
            start.update(message)
            return
        if not start or message["type"] != "http.response.body":
            await send(message)
            return
        body += message.get("body", b"")
        if not message.get("more_body"):
            await _send_text(send, start, body)

    return rewrite


async def _send_text(send: Send, start: dict[str, object], body: bytes) -> None:
    text = as_text(body)
    headers = start["headers"]
    assert isinstance(headers, list | tuple)
    kept = [pair for pair in headers if bytes(pair[0]).lower() != b"content-length"]
    length = (b"content-length", str(len(text)).encode())
    await send({**start, "headers": [*kept, length]})
    await send({"type": "http.response.body", "body": text})


def as_text(body: bytes) -> bytes:
    """Return `{"error": "message (code, param, request id)"}` for the body of one of our errors."""
    try:
        error = orjson.loads(body)["error"]
        about = [error["code"], error["param"], error["request_id"]]
        text = f"{error['message']} ({', '.join(part for part in about if part)})"
    except (ValueError, KeyError, TypeError):
        return body
    return orjson.dumps({"error": text})
