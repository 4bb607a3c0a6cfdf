"""Recipes made with Keras on TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes.catalogue import Recipe
from training.recipes.checkpoints import Array
from training.recipes.data import Floats, Part
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.learner import DivergedError, Score

_OPSET = 17
_SCORE_ROWS = 512


def limit_threads(threads: int) -> None:
    """Keep TensorFlow to some cores; only before its first operation."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")


def _layers(name: str) -> list[Any]:
    from keras import layers

    softmax = layers.Dense(10, activation="softmax")

    def block(filters: int) -> list[Any]:
        return [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D()]

    def dense(units: int) -> Any:
        return layers.Dense(units, activation="relu")

    image = layers.Reshape((28, 28, 1))
    third = layers.Conv2D(64, 3, activation="relu")
    stacks = {
        "mnist-mlp": [layers.Flatten(), dense(256), dense(128), softmax],
        "mnist-cnn": [image, *block(32), *block(64), layers.Flatten(), dense(64), softmax],
        "mnist-cnn-deep": [
            *[image, *block(32), *block(64), third],
            *[layers.Flatten(), dense(64), softmax],
        ],
        "mnist-dropout": [layers.Flatten(), dense(128), layers.Dropout(0.2), softmax],
        "linear-regression": [layers.Dense(1)],
    }
    return stacks[name]


class KerasLearner:
    """A Keras model with its optimizer."""

    def __init__(self, recipe: Recipe, hyperparameters: Hyperparameters) -> None:
        import keras

        keras.utils.set_random_seed(hyperparameters.seed)
        spec = recipe.signature["inputs"][0]
        self._input: dict[str, Any] = spec
        self._output: str = recipe.signature["outputs"][0]["name"]
        self._is_classifier = recipe.is_classifier
        self._batch = hyperparameters.batch_size
        self._model = keras.Sequential(
            [keras.Input(tuple(spec["shape"]), name=spec["name"]), *_layers(recipe.name)],
            name=recipe.name.replace("-", "_"),
        )
        self._loss = (
            keras.losses.SparseCategoricalCrossentropy()
            if recipe.is_classifier
            else keras.losses.MeanSquaredError()
        )
        kind = {
            "adam": keras.optimizers.Adam,
            "sgd": keras.optimizers.SGD,
            "rmsprop": keras.optimizers.RMSprop,
        }[hyperparameters.optimizer]
        self._optimizer = kind(learning_rate=float(hyperparameters.learning_rate))
        self._optimizer.build(self._model.trainable_variables)
        self._step = self._make_step()

    def _make_step(self) -> Callable[..., Any]:
        import tensorflow as tf

        spec = [None, *self._input["shape"]]
        target = tf.TensorSpec([None], tf.int64)
        if not self._is_classifier:
            target = tf.TensorSpec([None, 1], tf.float32)

        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                output = self._model(x, training=True)
                loss = self._loss(y, output)
            variables = self._model.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            return loss, output

        compiled: Callable[..., Any] = tf.function(
            step, input_signature=[tf.TensorSpec(spec, tf.float32), target]
        )
        return compiled

    def fit_epoch(self, part: Part, after_batch: Callable[[int], None]) -> Score:
        """Learn from every row once."""
        total, right = 0.0, 0
        for start in range(0, len(part), self._batch):
            x, y = part.x[start : start + self._batch], part.y[start : start + self._batch]
            loss, output = self._step(x, y)
            value = float(loss)
            if not math.isfinite(value):
                raise DivergedError("The loss is no longer a finite number.")
            total += value * len(x)
            if self._is_classifier:
                right += int((output.numpy().argmax(1) == y).sum())
            after_batch(start + len(x))
        accuracy = right / len(part) if self._is_classifier else None
        return Score(total / len(part), accuracy)

    def score(self, part: Part) -> Score:
        """Return loss and accuracy without learning."""
        output = self.predict(part.x)
        loss = float(self._loss(part.y, output))
        if not math.isfinite(loss):
            raise DivergedError("The loss is no longer a finite number.")
        if not self._is_classifier:
            return Score(loss)
        return Score(loss, float((output.argmax(1) == part.y).mean()))

    def predict(self, x: Floats) -> Floats:
        """Return the outputs for a batch."""
        parts = [
            self._model(x[start : start + _SCORE_ROWS], training=False).numpy()
            for start in range(0, len(x), _SCORE_ROWS)
        ]
        return np.concatenate(parts)

    def _variables(self) -> list[Any]:
        # `variables`, not `weights`: the states of Dropout's random generators belong to it.
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
        """Write SavedModel, ONNX and `.keras`, all with the signature's tensor names."""
        import tensorflow as tf
        import tf2onnx
        from keras.export import ExportArchive

        name = self._input["name"]
        spec = tf.TensorSpec([None, *self._input["shape"]], tf.float32, name=name)

        def answer(tensor: Any) -> dict[str, Any]:
            return {self._output: self._model(tensor, training=False)}

        files = {
            "saved_model": folder / "saved_model",
            "onnx": folder / "model.onnx",
            "keras": folder / "model.keras",
        }
        serve = tf.function(answer, input_signature=[spec])
        archive = ExportArchive()
        archive.track(self._model)
        archive.add_endpoint("serve", serve, input_signature=[spec])
        archive.write_out(str(files["saved_model"]), verbose=False)
        tf2onnx.convert.from_function(
            serve, input_signature=[spec], opset=_OPSET, output_path=str(files["onnx"])
        )
        self._model.save(files["keras"])
        return files
