"""What all faces read alike: JSON bodies, and the headers that say how to run a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import orjson

from accounts import errors
from accounts.keys import Caller
from billing import ceilings
from inference import predictions, starting
from inference.errors import NonFiniteNumberError
from inference.faces import multipart
from inference.faces.http import HttpRequest
from inference.predictions import Call
from inference.runtime.signature import Signature
from inference.runtime.tensors import Input

_NAN = re.compile(rb"[\[,:\s](?:-?NaN|-?Infinity)\b")


def media_type(request: HttpRequest) -> str:
    """Return the body's type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def fields(request: HttpRequest) -> dict[str, Any]:
    """Read the body's fields, from JSON or from a form.

    Raises:
        UnsupportedMediaTypeError, InvalidJSONError, InvalidRequestError: It is neither.
    """
    refuse_encoded(request)
    kind = media_type(request)
    if kind == "multipart/form-data":
        return multipart.parse(request.headers["content-type"], request.body)
    # curl -d without a header sends the form type; the body decides.
    if kind not in {"application/json", "", "application/x-www-form-urlencoded"}:
        raise errors.UnsupportedMediaTypeError(
            "Send application/json or multipart/form-data; POST /v1/predictions also takes "
            "application/x-npy, application/octet-stream, image/png and image/jpeg."
        )
    return json_object(request.body)


def refuse_encoded(request: HttpRequest) -> None:
    """Refuse a body that is compressed: a small one could become a huge one.

    Raises:
        UnsupportedMediaTypeError: It is.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.UnsupportedMediaTypeError(
            "Send the body as it is, without compression.", param="Content-Encoding"
        )


def json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InvalidJSONError, NonFiniteNumberError: It is not one.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if _NAN.search(body):
            raise NonFiniteNumberError("NaN and Infinity are not JSON numbers.") from error
        raise errors.InvalidJSONError(f"The body is not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise errors.InvalidJSONError("The body must be a JSON object.")
    return data


def refuse_unknown(found: dict[str, Any], known: Collection[str]) -> None:
    """Refuse fields that mean nothing.

    Raises:
        UnknownFieldError: Naming the first.
    """
    for name in found:
        if name not in known:
            raise errors.UnknownFieldError(f"Unknown field {name[:64]!r}.", param=name[:64])


def call(
    request: HttpRequest,
    caller: Caller,
    ref: str,
    decode: Callable[[Signature], Input],
    *,
    form: str = "",
) -> Call:
    """Make a call of what a face has read and of what the headers ask.

    Args:
        decode: Turns what was sent into arrays, once the version is known.
        form: How the face shall write the answer.

    Raises:
        InvalidRequestError: A header is wrong.
    """
    headers = request.headers
    key = headers.get("idempotency-key", "")
    if len(key) > 200 or not key.isprintable():
        raise errors.InvalidRequestError(
            "An Idempotency-Key has at most 200 printable characters.", param="Idempotency-Key"
        )
    return Call(
        caller=caller,
        ref=ref,
        decode=decode,
        source="api",
        request_id=request.request_id,
        idempotency_key=key,
        fingerprint=_fingerprint(request) if key else "",
        input_bytes=len(request.body),
        ceiling_nanos=ceilings.read(headers.get("mercato-max-cost", "")),
        quote=headers.get("mercato-quote", ""),
        wait=starting.patience(headers["prefer"]) if "prefer" in headers else None,
        form=form,
    )


def _fingerprint(request: HttpRequest) -> str:
    path = f"{request.path}?{request.query}" if request.query else request.path
    return predictions.fingerprint("POST", path, request.body)
