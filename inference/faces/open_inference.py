"""POST /v2/models/{owner}.{name}/infer: the Open Inference Protocol, JSON and binary tensors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from accounts import errors
from accounts.keys import Caller
from inference.answers import Answer, dumps
from inference.faces import infer_body, requests
from inference.faces.http import HttpAnswer, HttpRequest
from inference.faces.infer_body import InferBody
from inference.predictions import Call, Replay
from inference.runtime import open_inference
from inference.runtime.sessions import Arrays
from inference.runtime.signature import Signature

_PATH = re.compile(r"/v2/models/([^/.]{1,64})\.([^/.]{1,64})(?:/versions/(\d{1,9}))?/infer")
_HEADER_LENGTH = "inference-header-content-length"


class OpenInference:
    """Tensors in, tensors out."""

    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""
        return method == "POST" and path.startswith("/v2/models/") and path.endswith("/infer")

    def read(self, request: HttpRequest, caller: Caller) -> Call:
        """Check what is asked."""
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise errors.NotFoundError("There is no such path. A model is named owner.name.")
        requests.refuse_encoded(request)
        body = infer_body.read(request.body, request.headers.get(_HEADER_LENGTH))
        owner, name, number = match.groups()
        ref = f"{owner}/{name}:{number}" if number else f"{owner}/{name}"
        return requests.call(request, caller, ref, body)

    def write(self, call: Call, answer: Answer | Replay) -> HttpAnswer:
        """Put an answer into the protocol's form."""
        body = call.decode
        assert isinstance(body, InferBody)
        signature = body.signature
        assert signature is not None
        if isinstance(answer, Replay):
            return _write(body, answer.body, _arrays(answer.body["output"], signature), signature)
        about = {
            "model": answer.version_path,
            "cost": {
                "amount": answer.cost_text,
                "currency": answer.currency,
                "hold": str(answer.hold_id),
            },
        }
        return _write(body, about, answer.arrays, signature)


def _write(
    body: InferBody, about: dict[str, Any], arrays: Arrays, signature: Signature
) -> HttpAnswer:
    described, binary = open_inference.encode(arrays, signature, body.asked(signature))
    path, _, number = about["model"].partition(":")
    head: dict[str, Any] = {"model_name": path.replace("/", "."), "model_version": number}
    if body.id is not None:
        head["id"] = body.id
    cost = about["cost"]
    # Most clients of this protocol do not show headers.
    head["parameters"] = {name: cost[name] for name in ("amount", "currency", "hold")}
    head["outputs"] = described
    text = dumps(head)
    if not binary:
        return HttpAnswer(text)
    return HttpAnswer(
        b"".join([text, *binary]),
        content_type=b"application/octet-stream",
        headers=((_HEADER_LENGTH.encode(), str(len(text)).encode()),),
    )


def _arrays(rows: list[dict[str, Any]], signature: Signature) -> Arrays:
    """Make arrays of stored rows again."""
    return {
        spec.name: np.array([row[spec.name] for row in rows], spec.datatype)
        for spec in signature.outputs
    }
