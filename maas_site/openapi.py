"""The OpenAPI description: which paths are in it, and the hot ones that DRF does not serve."""

from __future__ import annotations

from typing import Any

from inference import openapi as inference_openapi


def only_public_paths(endpoints: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Keep what is promised: the paths under /v1 and /v2 (drf-spectacular hook)."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith(("/v1/", "/v2"))]


def add_hot_paths(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the paths that are served before Django (drf-spectacular hook)."""
    for path, methods in inference_openapi.paths().items():
        result["paths"].setdefault(path, {}).update(methods)
    result["components"].setdefault("schemas", {}).update(inference_openapi.schemas())
    return result
