"""POST /v1/predictions, PUT /v1/predictions/{id}: our own form."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from accounts import errors
from accounts.keys import Caller
from inference import predictions
from inference.answers import Answer, dumps
from inference.asynchronous import wishes
from inference.faces import binary, requests
from inference.faces.http import HttpAnswer, HttpRequest
from inference.predictions import Call, Given, Replay
from inference.runtime import tensors

_PATH = "/v1/predictions"
_FIELDS = frozenset({"model", "input", "webhook"})


class Predictions:
    """`{"model": "owner/name", "input": {…}}` → the prediction with its cost."""

    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""
        return path == _PATH and method == "POST"

    def read(self, request: HttpRequest, caller: Caller) -> Call:
        """Check what is asked."""
        kind = requests.media_type(request)
        if kind in binary.READERS:
            return binary.read(request, caller, kind)
        return _read_json(request, caller)

    def write(self, call: Call, answer: Answer | Replay) -> HttpAnswer:
        """Put an answer into our form."""
        if isinstance(answer, Replay):
            return HttpAnswer(dumps(answer.body))
        return HttpAnswer(answer.as_bytes())


class ChosenPrediction(Predictions):
    """The same with an id that the caller has chosen: it always runs later, and once."""

    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""
        above, _, name = path.rpartition("/")
        return method == "PUT" and above == _PATH and name != ""

    def read(self, request: HttpRequest, caller: Caller) -> Call:
        """Check what is asked."""
        chosen = _chosen_id(request.path.rpartition("/")[2])
        if "idempotency-key" in request.headers:
            raise errors.InvalidRequestError(
                "The id is the Idempotency-Key already.", param="Idempotency-Key"
            )
        fingerprint = predictions.fingerprint(request.method, request.path, request.body)
        call = _read_json(request, caller, is_later=True)
        return replace(call, prediction_id=chosen, fingerprint=fingerprint)


def _read_json(request: HttpRequest, caller: Caller, *, is_later: bool = False) -> Call:
    found = requests.fields(request)
    requests.refuse_unknown(found, _FIELDS)
    ref = found.get("model")
    if not isinstance(ref, str):
        raise errors.InvalidRequestError("`model` must be a string: owner/name.", param="model")
    if "input" not in found:
        raise errors.InvalidRequestError("`input` is missing.", param="input")
    webhook = found.get("webhook", "")
    if not isinstance(webhook, str):
        raise errors.InvalidRequestError("`webhook` must be a URL.", param="webhook")
    call = requests.call(request, caller, ref, Given(tensors.decode, found["input"]))
    wish = wishes.read(request.headers, webhook=webhook, is_later=is_later)
    return replace(call, wish=wish, stored_input=found["input"]) if wish else call


def _chosen_id(text: str) -> UUID:
    """Read an id that a caller has made.

    Raises:
        InvalidRequestError: Others could guess it, or it could be written in several ways.
    """
    try:
        found = UUID(text)
    except ValueError:
        found = UUID(int=0)
    if found.version not in {4, 7} or str(found) != text:
        raise errors.InvalidRequestError(
            "An id is a UUID of version 4 or 7, in lower case and with hyphens.", param="id"
        )
    return found
