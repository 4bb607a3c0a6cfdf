"""What the Playground's script needs to know about a version."""

from __future__ import annotations

from typing import Any

from catalog import snippets
from catalog.models import ModelVersion


def setup(version: ModelVersion, public_url: str) -> dict[str, Any]:
    """Return the version's inputs, outputs and examples; images as hexadecimal grey levels."""
    return {
        "model": version.model.path,
        "version": version.number,
        "isCurrent": version.pk == version.model.current_version_id,
        "publicUrl": public_url,
        "inputs": version.signature["inputs"],
        "outputs": version.signature["outputs"],
        "examples": [
            {"label": str(example.get("label", "")), "input": _compact(version, example["input"])}
            for example in version.examples
        ],
    }


def kind(version: ModelVersion) -> str:
    """Return which form fits: `image`, `number`, or `tensor` for everything else."""
    kinds = {spec.get("kind", "tensor") for spec in version.signature["inputs"]}
    if kinds == {"number"}:
        return "number"
    return "image" if kinds == {"image"} and len(version.signature["inputs"]) == 1 else "tensor"


def _compact(version: ModelVersion, given: dict[str, Any]) -> dict[str, Any]:
    kinds = {spec["name"]: spec.get("kind") for spec in version.signature["inputs"]}
    return {
        name: bytes(snippets.levels(value)).hex() if kinds.get(name) == "image" else value
        for name, value in given.items()
    }
