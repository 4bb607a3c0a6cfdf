"""Calls to models for text as a person would type them: in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

from catalog.models import ModelVersion
from catalog.models.models import Task

KEY = "$MERCATO_KEY"
_LENGTH = 120


def example(version: ModelVersion) -> str:
    """Return a text that works: the first example, or a short one."""
    for given in version.examples:
        for value in given["input"].values():
            if isinstance(value, str):
                return value
    return "Hello"


def curl(version: ModelVersion, public_url: str) -> str:
    """Return the call as lines for a shell."""
    path, body = _call(version)
    return (
        f"curl {public_url}/v1/{path} \\\n"
        f'  -H "Authorization: Bearer {KEY}" -H "Content-Type: application/json" \\\n'
        f"  -d '{json.dumps(body)}'"
    )


def python(version: ModelVersion, public_url: str) -> str:
    """Return the call for the package `openai`, which works unchanged."""
    head = (
        "import os\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{public_url}/v1", api_key=os.environ["MERCATO_KEY"])\n'
    )
    model, text = json.dumps(version.model.path), json.dumps(example(version))
    if version.model.task == Task.SENTENCE_EMBEDDING:
        return (
            f"{head}answer = client.embeddings.create(model={model}, input=[{text}])\n"
            "print(len(answer.data[0].embedding), answer.usage.prompt_tokens)"
        )
    return (
        f"{head}stream = client.completions.create(\n"
        f"    model={model},\n    prompt={text},\n    max_tokens={_LENGTH},\n    stream=True,\n)\n"
        "for chunk in stream:\n"
        '    print(chunk.choices[0].text, end="", flush=True)'
    )


def answer(version: ModelVersion) -> dict[str, Any]:
    """Return what such a call answers."""
    text = example(version)
    if version.model.task == Task.SENTENCE_EMBEDDING:
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.0127, -0.0315, 0.0842]}],
            "model": version.path,
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        }
    written = "set aside before a run and given back when it ends."
    return {
        "id": "cmpl-0199a7c26f5e7d20b0c451a9e3b7f2d8",
        "object": "text_completion",
        "created": 1767225600,
        "model": version.path,
        "choices": [{"index": 0, "text": written, "logprobs": None, "finish_reason": "length"}],
        "usage": {
            "prompt_tokens": len(text),
            "completion_tokens": len(written),
            "total_tokens": len(text) + len(written),
        },
    }


def _call(version: ModelVersion) -> tuple[str, dict[str, Any]]:
    text = example(version)
    if version.model.task == Task.SENTENCE_EMBEDDING:
        return "embeddings", {"model": version.model.path, "input": [text]}
    body = {"model": version.model.path, "prompt": text, "max_tokens": _LENGTH}
    return "completions", body
