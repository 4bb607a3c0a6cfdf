"""Writes the model in MLflow's format, then becomes its scoring server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec


def main() -> None:
    """Save and serve."""
    folder = Path(os.environ["FOLDER"]) / "mlflow"
    images = TensorSpec(np.dtype(np.float32), (-1, 28, 28), "image")
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(Path(__file__).with_name("mlflow_model.py")),
        signature=ModelSignature(inputs=Schema([TensorSpec(images.type, images.shape)])),
        pip_requirements=[],
    )
    program = Path(sys.executable).with_name("mlflow")
    arguments = ["models", "serve", "--model-uri", str(folder), "--env-manager", "local"]
    arguments += ["--host", "127.0.0.1", "--port", os.environ["PORT"]]
    arguments += ["--workers", os.environ["WORKERS"]]
    os.execv(program, [str(program), *arguments])  # noqa: S606  (a shell has no place here)


if __name__ == "__main__":
    main()
