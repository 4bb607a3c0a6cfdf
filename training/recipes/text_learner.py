"""The text recipe: a recurrent network over characters, with Keras on TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes import gru_graph
from training.recipes.catalogue import VOCABULARY
from training.recipes.checkpoints import Array
from training.recipes.data import Floats, Part
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.learner import DivergedError, Score

EMBEDDING, HIDDEN = 48, 256
_DROPOUT = 0.25
_CLIP = 1.0
_SCORE_ROWS = 128


class TextLearner:
    """The network with its optimizer; x are characters as numbers, y those that follow."""

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        import keras

        keras.utils.set_random_seed(hyperparameters.seed)
        self._batch = hyperparameters.batch_size
        self._gru = keras.layers.GRU(HIDDEN, return_sequences=True, use_cudnn=False)
        self._embedding = keras.layers.Embedding(len(VOCABULARY), EMBEDDING)
        self._out = keras.layers.Dense(len(VOCABULARY))
        self._model = keras.Sequential(
            [
                keras.Input((None,), dtype="int32", name="ids"),
                *(self._embedding, self._gru, keras.layers.Dropout(_DROPOUT), self._out),
            ]
        )
        kind = {
            "adam": keras.optimizers.Adam,
            "sgd": keras.optimizers.SGD,
            "rmsprop": keras.optimizers.RMSprop,
        }[hyperparameters.optimizer]
        self._optimizer = kind(learning_rate=float(hyperparameters.learning_rate), clipnorm=_CLIP)
        self._optimizer.build(self._model.trainable_variables)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._step = self._make_step()

    def _make_step(self) -> Callable[..., Any]:
        import tensorflow as tf

        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = self._loss(y, self._model(x, training=True))
            variables = self._model.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        spec = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.int64)]
        compiled: Callable[..., Any] = tf.function(step, input_signature=spec)
        return compiled

    def fit_epoch(self, part: Part, after_batch: Callable[[int], None]) -> Score:
        """Learn from every row once."""
        total = 0.0
        for start in range(0, len(part), self._batch):
            rows = slice(start, start + self._batch)
            loss = float(self._step(part.x[rows].astype(np.int32), part.y[rows]))
            if not math.isfinite(loss):
                raise DivergedError("The loss is no longer a finite number.")
            count = len(part.x[rows])
            total += loss * count
            after_batch(start + count)
        return Score(total / len(part))

    def score(self, part: Part) -> Score:
        """Return the loss in nats per character."""
        total = 0.0
        for start in range(0, len(part), _SCORE_ROWS):
            rows = slice(start, start + _SCORE_ROWS)
            logits = self._model(part.x[rows].astype(np.int32), training=False)
            total += float(self._loss(part.y[rows], logits)) * len(part.x[rows])
        if not math.isfinite(total):
            raise DivergedError("The loss is no longer a finite number.")
        return Score(total / len(part))

    def predict(self, x: Floats) -> Floats:
        """Return the scores of the character after each row: (rows, characters)."""
        logits: Floats = self._model(x.astype(np.int32), training=False).numpy()
        return logits[:, -1]

    def _variables(self) -> list[Any]:
        return [*self._model.variables, *self._optimizer.variables]

    def arrays(self) -> list[Array]:
        """Return weights, optimizer and random generators."""
        return [np.asarray(variable) for variable in self._variables()]

    def restore(self, arrays: list[Array]) -> None:
        """Put a state back."""
        for variable, array in zip(self._variables(), arrays, strict=True):
            variable.assign(array)

    def parameters(self) -> int:
        """Return the number of trained numbers."""
        return int(self._model.count_params())

    def export(self, folder: Path) -> dict[str, Path]:
        """Write the ONNX graph with its state outside, and `.keras`."""
        files = {"onnx": folder / "model.onnx", "keras": folder / "model.keras"}
        kernel, recurrent, bias = self._gru.get_weights()
        out, out_bias = self._out.get_weights()
        (embedding,) = self._embedding.get_weights()
        gru_graph.write(
            {
                "embedding": embedding,
                "kernel": kernel,
                "recurrent": recurrent,
                "bias": bias,
                "out": out,
                "out_bias": out_bias,
            },
            files["onnx"],
        )
        self._model.save(files["keras"])
        return files
