"""What the Playground's script needs to know about a version."""

from __future__ import annotations

from typing import Any

from catalog import snippets
from catalog.models import ModelVersion

# The script puts the reader's own input in its place.
PLACEHOLDER = "__INPUT__"


def setup(version: ModelVersion, public_url: str) -> dict[str, Any]:
    """Return the version's inputs, outputs, examples, and the same call as curl and Python."""
    is_current = version.pk == version.model.current_version_id
    body = {
        "model": version.model.path if is_current else version.path,
        "input": PLACEHOLDER,
    }
    return {
        "version": version.number,
        "kind": kind(version),
        "inputs": version.signature["inputs"],
        "outputs": version.signature["outputs"],
        "examples": [
            {
                "label": str(example.get("label", "")),
                "input": snippets.portable(version, example["input"]),
            }
            for example in version.examples
        ],
        "code": _code(public_url, body, is_later=False),
        "code_later": _code(public_url, body, is_later=True),
        "placeholder": PLACEHOLDER,
    }


def _code(public_url: str, body: dict[str, Any], *, is_later: bool) -> dict[str, str]:
    return {
        "curl": snippets.curl(public_url, body, is_later=is_later),
        "python": snippets.python(public_url, body, is_later=is_later),
    }


def kind(version: ModelVersion) -> str:
    """Return which form fits: `image`, `number`, `prompt`, or `tensor` for everything else."""
    inputs = version.signature["inputs"]
    kinds = {spec.get("kind", "tensor") for spec in inputs}
    if kinds == {"prompt"}:
        return "prompt"
    if kinds == {"number"}:
        return "number"
    return "image" if kinds == {"image"} and len(inputs) == 1 else "tensor"
