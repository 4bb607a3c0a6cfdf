"""POST /v1/embeddings, in OpenAI's form."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

import numpy as np

from accounts.keys import Caller
from inference import errors
from inference.answers import Answer, dumps
from inference.faces import requests
from inference.faces.http import HttpAnswer, HttpRequest
from inference.generation import options
from inference.predictions import Call, Replay
from inference.runtime import tensors
from inference.runtime.signature import Signature

_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "user"})


class Embeddings:
    """`{"input": ["…"]}` → a vector for each text, as numbers or as base64."""

    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""
        return path == "/v1/embeddings" and method == "POST"

    def read(self, request: HttpRequest, caller: Caller) -> Call:
        """Check what is asked."""
        sent = requests.json_object(request.body)
        requests.refuse_unknown(sent, _FIELDS)
        found = {name: value for name, value in sent.items() if value is not None}
        ref = options.text(found, "model")
        form = found.get("encoding_format", "float")
        if form not in {"float", "base64"}:
            raise options.refuse("encoding_format", "must be `float` or `base64`.")
        width = options.whole(found, "dimensions", 1, 1_000_000)
        decode = partial(_decode, _texts(found), width)
        return requests.call(request, caller, ref, decode, form=form)

    def write(self, call: Call, answer: Answer | Replay) -> HttpAnswer:
        """Put an answer into OpenAI's form."""
        if isinstance(answer, Replay):
            vectors = np.array([row["embedding"] for row in answer.body["output"]], np.float32)
            tokens, model = answer.body["cost"]["units"]["input_token"], answer.body["model"]
        else:
            vectors = answer.arrays["embedding"]
            tokens, model = answer.input_tokens, answer.version_path
        as_text = call.form == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _base64(vector) if as_text else vector,
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return HttpAnswer(dumps({"object": "list", "data": data, "model": model, "usage": usage}))


def _base64(vector: Any) -> str:
    """Return little-endian float32 numbers as text: what OpenAI's package asks for."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def _texts(found: dict[str, Any]) -> list[str]:
    value = found.get("input")
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, list)
        or not texts
        or not all(isinstance(text, str) and text for text in texts)
    ):
        raise options.refuse("input", "must be a text or a list of texts, none of them empty.")
    return texts


def _decode(texts: list[str], width: int | None, signature: Signature) -> tensors.Input:
    if signature.input_kind != "text":
        raise errors.WrongTaskError(
            "This model does not embed texts. Its page shows how to call it.", param="model"
        )
    (own,) = signature.outputs[0].shape
    if width not in {None, own}:
        raise options.refuse("dimensions", f"must be {own} or left out: vectors are not cut short.")
    return tensors.decode({signature.inputs[0].name: texts}, signature)
