"""The model as every peer runs it: one ONNX session with one thread, arrays in, answers out."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


class Classifier:
    """The ONNX file that `MODEL` names."""

    def __init__(self) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def classify(self, images: Any) -> list[dict[str, Any]]:
        """Return probabilities and label of each image of a float32 array [n, 28, 28]."""
        rows = self._session.run(None, {"image": np.asarray(images, dtype=np.float32)})[0]
        return [{"probabilities": row.tolist(), "label": str(int(row.argmax()))} for row in rows]
