"""The hot door: POST /v1/predictions and …:predict, served before Django.

Django's middleware costs more than everything that is done here, and none of it is needed: no
session, no CSRF, no language. The tests of the API's errors go through this door as well.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson
from django.db import DatabaseError

from accounts import errors, keys
from accounts.authentication import bearer
from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.permissions import require_scope
from billing import caps, ceilings
from inference import multipart, predictions
from inference.answers import Answer, dumps
from inference.errors import NonFiniteNumberError
from inference.predictions import Call, Replay

logger = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[str, str]

MAX_BODY_BYTES = 1_048_576
_INSTANCES = re.compile(r"/v1/models/([^/:]{1,64}/[^/:]{1,64})(?:/versions/(\d{1,9}))?:predict")
_FIELDS = {"model", "input"}
_INSTANCES_FIELDS = {"instances", "signature_name"}
_NAN = re.compile(rb"[\[,:\s](?:-?NaN|-?Infinity)\b")


def is_hot(scope: Scope) -> bool:
    """Whether this door serves the request."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"]
    return path == "/v1/predictions" or (path.startswith("/v1/models/") and ":predict" in path)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    request_id = scope["state"]["request_id"]
    try:
        body = await _read(headers, receive)
        call = await _call(scope, headers, body, request_id)
        answer = await predictions.predict(call)
    except MercatoError as error:
        await _send_error(send, error, request_id)
    except ConnectionError:
        return
    except DatabaseError:
        logger.warning("request %s", request_id, exc_info=True)
        await _send_error(send, errors.OverloadedError("The database is away."), request_id)
    except Exception:  # the process's edge: the caller is told, the operator sees the traceback
        logger.exception("request %s", request_id)
        await _send_error(send, MercatoError("Something went wrong on our side."), request_id)
    else:
        await _send_answer(send, call, answer, request_id)


async def _read(headers: Headers, receive: Receive) -> bytes:
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


async def _call(scope: Scope, headers: Headers, body: bytes, request_id: str) -> Call:
    """Check who calls and what is asked."""
    secret = bearer(headers.get("authorization", ""))
    caller = keys.cached_caller(secret) or await predictions.in_database(keys.authenticate, secret)
    require_scope(caller, "predict")
    path: str = scope["path"]
    fields = _parse(headers, body)
    key = headers.get("idempotency-key", "")
    if len(key) > 200 or not key.isprintable():
        raise errors.InvalidRequestError(
            "An Idempotency-Key has at most 200 printable characters.", param="Idempotency-Key"
        )
    ref, value, is_instances = _instances(path, fields) or _prediction(fields)
    return Call(
        caller=_as(caller),
        ref=ref,
        value=value,
        source="api",
        request_id=request_id,
        is_instances=is_instances,
        idempotency_key=key,
        fingerprint=predictions.fingerprint("POST", path, body) if key else "",
        input_bytes=len(body),
        ceiling_nanos=ceilings.read(headers.get("mercato-max-cost", "")),
        quote=headers.get("mercato-quote", ""),
    )


def _as(caller: Any) -> Caller:
    assert isinstance(caller, Caller)
    return caller


def _parse(headers: Headers, body: bytes) -> dict[str, Any]:
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        return multipart.parse(headers["content-type"], body)
    # curl -d without a header sends the form type; the body decides.
    if content_type not in {"application/json", "", "application/x-www-form-urlencoded"}:
        raise errors.UnsupportedMediaTypeError("Send application/json or multipart/form-data.")
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if _NAN.search(body):
            raise NonFiniteNumberError("NaN and Infinity are not JSON numbers.") from error
        raise errors.InvalidJSONError(f"The body is not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise errors.InvalidJSONError("The body must be a JSON object.")
    return data


def _prediction(fields: dict[str, Any]) -> tuple[str, Any, bool]:
    _refuse_unknown(fields, _FIELDS)
    ref = fields.get("model")
    if not isinstance(ref, str):
        raise errors.InvalidRequestError("`model` must be a string: owner/name.", param="model")
    if "input" not in fields:
        raise errors.InvalidRequestError("`input` is missing.", param="input")
    return ref, fields["input"], False


def _instances(path: str, fields: dict[str, Any]) -> tuple[str, Any, bool] | None:
    if path == "/v1/predictions":
        return None
    match = _INSTANCES.fullmatch(path)
    if match is None:
        raise errors.NotFoundError("There is no such path.")
    _refuse_unknown(fields, _INSTANCES_FIELDS)
    if fields.get("signature_name", "serving_default") != "serving_default":
        raise errors.InvalidRequestError(
            "The only signature is `serving_default`.", param="signature_name"
        )
    if "instances" not in fields:
        raise errors.InvalidRequestError("`instances` is missing.", param="instances")
    name, number = match.groups()
    return f"{name}:{number}" if number else name, fields["instances"], True


def _refuse_unknown(fields: dict[str, Any], known: Iterable[str]) -> None:
    for name in fields:
        if name not in known:
            raise errors.UnknownFieldError(f"Unknown field {name[:64]!r}.", param=name[:64])


async def _send_answer(send: Send, call: Call, answer: Answer | Replay, request_id: str) -> None:
    extra = [(b"mercato-cost", answer.cost_text.encode())]
    if isinstance(answer, Replay):
        extra.append((b"idempotent-replayed", b"true"))
        output = answer.body["output"]
        body = {"predictions": _bare(output)} if call.is_instances else answer.body
    else:
        if answer.admission is not None:
            extra += caps.headers(answer.admission)
        body = answer.as_instances() if call.is_instances else answer.as_json()
    await _send(send, 200, dumps(body), request_id, extra)


def _bare(output: list[dict[str, Any]]) -> list[Any]:
    """Turn stored rows into TensorFlow Serving's form: bare values if there is one output."""
    rows = [{name: value for name, value in row.items() if name != "label"} for row in output]
    return [next(iter(row.values())) if len(row) == 1 else row for row in rows]


async def _send_error(send: Send, error: MercatoError, request_id: str) -> None:
    extra = [(name.lower().encode(), value.encode()) for name, value in error.headers]
    if error.retry_after is not None:
        extra.append((b"retry-after", str(error.retry_after).encode()))
    if error.status_code == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    body = errors.body_of(error, request_id)
    await _send(send, error.status_code, dumps(body), request_id, extra)


async def _send(
    send: Send, status: int, body: bytes, request_id: str, extra: list[tuple[bytes, bytes]]
) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
