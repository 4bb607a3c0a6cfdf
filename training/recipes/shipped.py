"""The LSTM as a file: made by the recipe where PyTorch was, used where it is not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes.checkpoints import Array
from training.recipes.data import Floats, Part
from training.recipes.learner import Score

FOLDER = Path(__file__).parent / "digits_lstm"
MODEL = FOLDER / "digits-lstm.onnx"
RECORD = FOLDER / "record.json"


class CorruptFileError(Exception):
    """The file is not the one its record describes."""


class ShippedLearner:
    """A finished model that can be checked and exported, not trained."""

    def __init__(self) -> None:
        import onnxruntime

        self._record: dict[str, Any] = json.loads(RECORD.read_text())
        content = MODEL.read_bytes()
        if hashlib.sha256(content).hexdigest() != self._record["sha256"]:
            raise CorruptFileError(f"{MODEL.name} is not the file its record describes.")
        self._session: Any = onnxruntime.InferenceSession(
            content, providers=["CPUExecutionProvider"]
        )

    def record(self) -> dict[str, Any]:
        """Return how the file was made."""
        return {
            "seconds": self._record["seconds"],
            "epochs": self._record["hyperparameters"]["epochs"],
            "hyperparameters": self._record["hyperparameters"],
            "shipped": True,
            "sha256": self._record["sha256"],
            "made_with": self._record["made_with"],
        }

    def parity(self) -> dict[str, Any]:
        """Return how far the file was from the trained network when it was made."""
        return dict(self._record["parity"])

    def fit_epoch(self, part: Part, after_batch: Callable[[int], None]) -> Score:
        """Refuse: the file holds no optimizer."""
        raise NotImplementedError("A shipped model is not trained.")

    def score(self, part: Part) -> Score:
        """Return loss and accuracy."""
        output = self.predict(part.x)
        y = np.asarray(part.y, np.int64)
        loss = float(-np.log(np.maximum(output[np.arange(len(y)), y], 1e-12)).mean())
        return Score(loss, float((output.argmax(1) == y).mean()))

    def predict(self, x: Floats) -> Floats:
        """Return the probabilities for a batch."""
        output: Floats = self._session.run(["probabilities"], {"image": x})[0]
        return output

    def arrays(self) -> list[Array]:
        """Return nothing: there is no state to go on from."""
        return []

    def restore(self, arrays: list[Array]) -> None:
        """Do nothing: there is no state to go on from."""

    def parameters(self) -> int:
        """Return the number of trained numbers."""
        return int(self._record["parameters"])

    def export(self, folder: Path) -> dict[str, Path]:
        """Copy the file."""
        target = folder / "model.onnx"
        shutil.copyfile(MODEL, target)
        return {"onnx": target}
