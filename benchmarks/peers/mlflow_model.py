"""The model as an MLflow Python model: MLflow reads it from this file."""

from __future__ import annotations

from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel

from benchmarks.peers.classifier import Classifier


class Classify(PythonModel):  # type: ignore[misc]  # MLflow is not installed where types are checked
    """One process with the model."""

    def load_context(self, context: Any) -> None:
        """Open the session once per process."""
        self._classifier = Classifier()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """Compute what one request brought; MLflow does not batch across requests."""
        return self._classifier.classify(model_input)


mlflow.models.set_model(Classify())
