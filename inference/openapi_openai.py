"""The description of the paths in OpenAI's form, which DRF does not serve."""

from __future__ import annotations

from typing import Any

_PATHS = {
    "/v1/chat/completions": (
        "chat_completions_create",
        "Continue a conversation.",
        "ChatCompletion",
    ),
    "/v1/completions": ("completions_create", "Continue a text.", "Completion"),
    "/v1/embeddings": ("embeddings_create", "Turn texts into vectors.", "Embeddings"),
}
_ANY = {"type": "object", "additionalProperties": True}
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_NUMBER = {"type": "number"}


def operations() -> dict[str, tuple[str, str, str]]:
    """Return path → (operation id, summary, name of the shapes)."""
    return _PATHS


def schemas() -> dict[str, Any]:
    """Return the shapes, by name."""
    model = _TEXT | {"example": "mercato/docs-gru"}
    choices = {
        "max_tokens": _WHOLE | {"minimum": 1},
        "temperature": _NUMBER | {"minimum": 0, "maximum": 2},
        "top_p": _NUMBER | {"minimum": 0, "maximum": 1},
        "seed": _WHOLE,
        "stop": {"oneOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": 4}]},
        "n": _WHOLE | {"enum": [1]},
        "stream": {"type": "boolean"},
        "stream_options": {
            "type": "object",
            "properties": {"include_usage": {"type": "boolean"}},
        },
    }
    message = {
        "type": "object",
        "properties": {"role": _TEXT, "content": _TEXT},
        "required": ["role", "content"],
    }
    return {
        "ChatCompletionRequest": _request(
            "messages",
            {
                "model": model,
                "messages": {"type": "array", "items": message},
                "max_completion_tokens": _WHOLE | {"minimum": 1},
                **choices,
            },
        ),
        "CompletionRequest": _request("prompt", {"model": model, "prompt": _TEXT, **choices}),
        "EmbeddingsRequest": _request(
            "input",
            {
                "model": _TEXT | {"example": "mercato/all-minilm-l6-v2"},
                "input": {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]},
                "encoding_format": {"type": "string", "enum": ["float", "base64"]},
                "dimensions": _WHOLE,
            },
        ),
        "ChatCompletion": _answer("choices"),
        "Completion": _answer("choices"),
        "Embeddings": _answer("data"),
    }


def _request(needed: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": ["model", needed]}


def _answer(items: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "object": _TEXT,
            "model": _TEXT,
            items: {"type": "array", "items": _ANY},
            "usage": _ANY,
        },
        "required": ["model", "object", items],
    }
