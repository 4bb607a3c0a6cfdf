"""The OpenAPI description: which paths are in it, and the hot ones that DRF does not serve."""

from __future__ import annotations

from typing import Any

from inference import openapi as inference_openapi


def only_public_paths(endpoints: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Keep what is promised: the paths under /v1 (drf-spectacular hook)."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/v1/")]


def add_hot_paths(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the paths that are served before Django (drf-spectacular hook)."""
    result["paths"].update(inference_openapi.paths())
    result["components"].setdefault("schemas", {}).update(inference_openapi.schemas())
    return result
