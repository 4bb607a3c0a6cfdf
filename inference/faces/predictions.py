"""POST /v1/predictions: our own form."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from accounts import errors
from accounts.keys import Caller
from inference.answers import Answer, dumps
from inference.asynchronous import wishes
from inference.faces import binary, requests
from inference.faces.http import HttpAnswer, HttpRequest
from inference.predictions import Call, Replay
from inference.runtime import tensors

_FIELDS = frozenset({"model", "input", "webhook"})


class Predictions:
    """`{"model": "owner/name", "input": {…}}` → the prediction with its cost."""

    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""
        return path == "/v1/predictions" and method == "POST"

    def read(self, request: HttpRequest, caller: Caller) -> Call:
        """Check what is asked."""
        kind = requests.media_type(request)
        if kind in binary.READERS:
            return binary.read(request, caller, kind)
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
        call = requests.call(request, caller, ref, partial(tensors.decode, found["input"]))
        wish = wishes.read(request.headers, webhook=webhook)
        return replace(call, wish=wish, stored_input=found["input"]) if wish else call

    def write(self, call: Call, answer: Answer | Replay) -> HttpAnswer:
        """Put an answer into our form."""
        if isinstance(answer, Replay):
            return HttpAnswer(dumps(answer.body))
        return HttpAnswer(answer.as_bytes())
