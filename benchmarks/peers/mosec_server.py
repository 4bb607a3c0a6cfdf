"""The model behind mosec: a Rust server that batches; no keys, no accounts, no database."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import orjson
from mosec import Server, Worker

from benchmarks.peers.classifier import Classifier


class Classify(Worker):  # type: ignore[misc]  # mosec is not installed where types are checked
    """One worker process with the model."""

    def __init__(self) -> None:
        self._classifier = Classifier()

    def deserialize(self, data: bytes) -> Any:
        """Read the JSON body."""
        return np.asarray(orjson.loads(data)["input"]["image"], dtype=np.float32)

    def forward(self, data: list[Any]) -> list[Any]:
        """Compute a batch."""
        return self._classifier.classify(np.stack(data))

    def serialize(self, data: Any) -> bytes:
        """Write the JSON answer."""
        return orjson.dumps({"output": data})


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Classify,
        num=int(os.environ["WORKERS"]),
        max_batch_size=64,
        max_wait_time=int(os.environ["WAIT_MS"]),
    )
    server.run()
