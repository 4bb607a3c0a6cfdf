"""The model behind BentoML: adaptive batching inside each of its processes."""

from __future__ import annotations

import os
from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import DType, Shape

from benchmarks.peers.classifier import Classifier


@bentoml.service(
    workers=int(os.environ["WORKERS"]),
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
)
class Classify:
    """One process with the model."""

    def __init__(self) -> None:
        self._classifier = Classifier()

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=64, max_latency_ms=int(os.environ["MAX_LATENCY_MS"])
    )
    def predict(
        self, image: Annotated[np.ndarray, DType("float32"), Shape((-1, 28, 28))]
    ) -> list[dict[str, Any]]:
        """Compute a batch."""
        return self._classifier.classify(image)
