"""Opens a version's files and runs them, on TensorFlow or ONNX Runtime."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class Session(Protocol):
    """A loaded model; `run` may be called from several threads."""

    size_bytes: int

    def run(self, arrays: Arrays) -> Arrays:
        """Compute one batch: name → array (rows, …)."""
        ...


class OnnxSession:
    """A model on ONNX Runtime."""

    def __init__(self, path: Path, *, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the core from everybody else on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [item.name for item in self._session.get_outputs()]
        self.size_bytes = path.stat().st_size

    def run(self, arrays: Arrays) -> Arrays:
        """Compute one batch."""
        return dict(zip(self._outputs, self._session.run(self._outputs, arrays), strict=True))


class TensorFlowSession:
    """A SavedModel on TensorFlow, through its concrete serving function."""

    def __init__(self, path: Path, *, threads: int) -> None:
        import tensorflow as tf

        _set_threads(tf, threads)
        # The module owns the variables: without this reference the function dies.
        self._module = tf.saved_model.load(str(path))
        self._function = self._module.signatures["serving_default"]
        self._constant = tf.constant
        self.size_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

    def run(self, arrays: Arrays) -> Arrays:
        """Compute one batch."""
        inputs = {name: self._constant(array) for name, array in arrays.items()}
        return {name: value.numpy() for name, value in self._function(**inputs).items()}


def _set_threads(tf: Any, threads: int) -> None:
    """Bound TensorFlow's pools; only possible before its first operation."""
    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        # Another model was loaded first: its setting holds for the process.
        return


class SlowSession:
    """For measurements: sleeps for each row, one batch at a time, as a busy device would."""

    def __init__(self, session: Session, row_seconds: float) -> None:
        self._session, self._row_seconds = session, row_seconds
        self._device = threading.Lock()
        self.size_bytes = session.size_bytes

    def run(self, arrays: Arrays) -> Arrays:
        """Compute one batch, slowly."""
        with self._device:
            time.sleep(self._row_seconds * len(next(iter(arrays.values()))))
        return self._session.run(arrays)


def import_runtime(runtime: str) -> None:
    """Import what `open_session` needs, which takes seconds the first time in a process."""
    if runtime == "onnx":
        import onnxruntime  # noqa: F401
    else:
        import tensorflow  # noqa: F401


def open_session(runtime: str, path: Path, *, threads: int = 1, kind: str = "tensor") -> Session:
    """Open a model file.

    Args:
        runtime: "onnx" (path of the file) or "tensorflow" (path of the SavedModel folder).
        kind: Of the signature's first input: models of text have sessions of their own.

    Raises:
        ValueError: The runtime is unknown.
    """
    if runtime == "onnx" and kind == "prompt":
        from inference.runtime.writers import WriterSession

        return WriterSession(path, threads=threads)
    if runtime == "onnx" and kind == "text":
        from inference.runtime.embedders import EmbedderSession

        return EmbedderSession(path, threads=threads)
    if runtime == "onnx":
        return OnnxSession(path, threads=threads)
    if runtime == "tensorflow":
        return TensorFlowSession(path, threads=threads)
    raise ValueError(f"{runtime!r} is not a runtime.")


def warm_up(session: Session, shapes: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """Run one row and a few: the first call of a model is the slowest.

    Args:
        shapes: Input name → (shape of one row, datatype).
    """
    for rows in (1, 8):
        session.run(
            {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in shapes.items()}
        )
