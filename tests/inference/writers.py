"""Models that write text, with weights by chance: nonsense, and always the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings

from accounts.models import Organization
from catalog import artifacts, prices
from catalog.models import Artifact, MLModel, ModelVersion
from tests import factories
from training.recipes import gru_graph

VOCABULARY = "\ufffd\n" + "".join(map(chr, range(32, 127)))
# Nanos per character: of the prompt, of the answer.
INPUT_NANOS, OUTPUT_NANOS = 3, 100
CANCELED_PAYS: Mapping[str, int] = {"canceled": 100}


def make_writer(
    owner: Organization | None = None,
    *,
    name: str = "",
    context: int = 4096,
    hidden: int = 32,
    policy: Mapping[str, int] = CANCELED_PAYS,
) -> ModelVersion:
    """Make a published text model with a small real ONNX file and prices per character."""
    spec: dict[str, Any] = {"datatype": "int32", "shape": [1], "kind": "prompt"}
    version = factories.make_version(
        owner=owner,
        name=name,
        signature={
            "inputs": [spec | {"name": "prompt"}],
            "outputs": [spec | {"name": "completion"}],
            "vocabulary": VOCABULARY,
            "context": context,
        },
        outcome_policy=dict(policy),
    )
    version.artifacts.all().delete()
    path = Path(settings.ARTIFACTS) / str(version.model_id) / "1" / "writer.onnx"
    gru_graph.write(_weights(hidden), path)
    Artifact.objects.create(
        version=version,
        kind=Artifact.Kind.ONNX,
        path=str(path.relative_to(settings.ARTIFACTS)),
        sha256=artifacts.sha256(path),
        size_bytes=path.stat().st_size,
    )
    MLModel.objects.filter(pk=version.model_id).update(task="text-generation")
    version.model.refresh_from_db()
    prices.add(
        model=version.model,
        components={"input_token": (INPUT_NANOS, 1), "output_token": (OUTPUT_NANOS, 1)},
    )
    return version


def _weights(hidden: int) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    characters, width = len(VOCABULARY), 16

    def numbers(*shape: int) -> Any:
        return rng.normal(0, 0.4, shape).astype(np.float32)

    return {
        "embedding": numbers(characters, width),
        "kernel": numbers(width, 3 * hidden),
        "recurrent": numbers(hidden, 3 * hidden),
        "bias": numbers(2, 3 * hidden),
        "out": numbers(hidden, characters),
        "out_bias": numbers(characters),
    }


def cost(prompt: str, written: int) -> int:
    """Return what a text costs, in nanos."""
    return len(prompt) * INPUT_NANOS + written * OUTPUT_NANOS
