"""POST /v1/predictions?model=owner/name with a body that is the input: no JSON around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qsl

from accounts import errors
from accounts.keys import Caller
from inference.faces import requests
from inference.faces.http import HttpRequest
from inference.predictions import Call
from inference.runtime import binary
from inference.runtime.signature import Signature
from inference.runtime.tensors import Input

# Content type → how the body is read.
READERS: dict[str, Callable[[bytes, Signature], Input]] = {
    "application/x-npy": binary.decode_npy,
    "application/octet-stream": binary.decode_values,
    "image/png": binary.decode_image,
    "image/jpeg": binary.decode_image,
}


def read(request: HttpRequest, caller: Caller, kind: str) -> Call:
    """Check what is asked; `kind` is one of READERS.

    Raises:
        InvalidRequestError: The query does not name a model.
    """
    requests.refuse_encoded(request)
    reader = READERS[kind]
    return requests.call(request, caller, _model(request.query), partial(reader, request.body))


def _model(query: str) -> str:
    """Return the one thing that the query may say."""
    # The server has bounded the line; a query is short.
    found = parse_qsl(query[:2048], keep_blank_values=True)
    for name, _ in found:
        if name != "model":
            raise errors.UnknownFieldError(
                f"Unknown query parameter {name[:64]!r}.", param=name[:64]
            )
    if len(found) != 1:
        raise errors.InvalidRequestError(
            "Name the model once in the query: ?model=owner/name.", param="model"
        )
    return found[0][1]
