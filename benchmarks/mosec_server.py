"""The same ONNX file behind mosec: batching, no keys, no accounts, no database."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import orjson
from mosec import Server, Worker


class Classifier(Worker):  # type: ignore[misc]  # mosec is optional
    """One worker process with the model."""

    def __init__(self) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def deserialize(self, data: bytes) -> Any:
        """Read the JSON body."""
        return np.asarray(orjson.loads(data)["input"]["image"], dtype=np.float32)

    def forward(self, data: list[Any]) -> list[Any]:
        """Compute a batch."""
        rows = self._session.run(None, {"image": np.stack(data)})[0]
        return [{"probabilities": row, "label": str(int(row.argmax()))} for row in rows]

    def serialize(self, data: Any) -> bytes:
        """Write the JSON answer."""
        return orjson.dumps({"output": data}, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Classifier,
        num=int(os.environ["WORKERS"]),
        max_batch_size=64,
        max_wait_time=int(os.environ["WAIT_MS"]),
    )
    server.run()
