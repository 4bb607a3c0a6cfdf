"""The data sets: read from disk or from installed packages, never downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.recipes.catalogue import DIGITS, LINE, MNIST

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
SIDE = 28
_INNER = 20
# The split is part of the data, not of a run: seeds of runs do not move it.
_SPLIT_SEED = 20_240_601


class DataUnavailableError(Exception):
    """The data set is not on this machine."""


@dataclass(frozen=True, slots=True)
class Part:
    """Inputs with their answers."""

    x: Floats
    y: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True)
class DataSet:
    """Training rows, rows that choose the best epoch, and rows no run ever learns from."""

    name: str
    training: Part
    validation: Part
    held_out: Part


def find_mnist(folders: Sequence[Path]) -> Path | None:
    """Return the MNIST file if one of the folders has it."""
    return next(
        (path for path in (folder / "mnist.npz" for folder in folders) if path.is_file()), None
    )


def available(name: str, folders: Sequence[Path]) -> bool:
    """Whether a data set can be read on this machine."""
    return name != MNIST or find_mnist(folders) is not None


def load(name: str, folders: Sequence[Path]) -> DataSet:
    """Read a data set.

    Raises:
        DataUnavailableError: It is not on this machine.
    """
    if name == MNIST:
        return _mnist(find_mnist(folders))
    return {DIGITS: _digits, LINE: _line}[name]()


def _mnist(path: Path | None) -> DataSet:
    if path is None:
        raise DataUnavailableError("MNIST is not on this machine.")
    with np.load(path, allow_pickle=False) as file:
        x = np.asarray(file["x_train"], np.float32) / np.float32(255)
        y = np.asarray(file["y_train"], np.int64)
        held_out = Part(
            np.asarray(file["x_test"], np.float32) / np.float32(255),
            np.asarray(file["y_test"], np.int64),
        )
    # The file is in random order already; its last tenth chooses the epoch.
    edge = len(x) - len(x) // 10
    return DataSet(MNIST, Part(x[:edge], y[:edge]), Part(x[edge:], y[edge:]), held_out)


def _digits() -> DataSet:
    """Read scikit-learn's handwritten digits, prepared the way MNIST was."""
    from sklearn.datasets import load_digits

    source = load_digits()
    x = np.stack([mnist_like(image / 16) for image in source.images])
    y = np.asarray(source.target, np.int64)
    training, validation, held_out = _stratified(y, (0.7, 0.1))
    return DataSet(
        DIGITS,
        Part(x[training], y[training]),
        Part(x[validation], y[validation]),
        Part(x[held_out], y[held_out]),
    )


def _line() -> DataSet:
    rng = np.random.default_rng(_SPLIT_SEED)
    x = rng.uniform(-5, 5, (1200, 1)).astype(np.float32)
    y = (3 * x + 2 + rng.normal(0, 0.25, x.shape)).astype(np.float32)
    return DataSet(
        LINE, Part(x[:800], y[:800]), Part(x[800:1000], y[800:1000]), Part(x[1000:], y[1000:])
    )


def mnist_like(image: NDArray[np.floating]) -> Floats:
    """Scale a small image 0..1 to 20×20 and put its centre of mass in the middle of 28×28."""
    from PIL import Image

    small = Image.fromarray(np.asarray(image, np.float32))
    large = np.asarray(small.resize((_INNER, _INNER), Image.Resampling.BICUBIC), np.float32)
    large = stroke(np.clip(large, 0, 1)[None], np.array([0.45]), np.array([7.0]))[0]
    weight = float(large.sum()) or 1.0
    middle = (SIDE - 1) / 2
    top = round(middle - float((large.sum(1) * np.arange(_INNER)).sum()) / weight)
    left = round(middle - float((large.sum(0) * np.arange(_INNER)).sum()) / weight)
    top, left = (min(max(edge, 0), SIDE - _INNER) for edge in (top, left))
    canvas = np.zeros((SIDE, SIDE), np.float32)
    canvas[top : top + _INNER, left : left + _INNER] = large
    return canvas


def stroke(
    images: Floats, threshold: NDArray[np.floating], steepness: NDArray[np.floating]
) -> Floats:
    """Make strokes crisp: a low threshold thickens them, a high one thins them."""
    t = threshold.astype(np.float32)[:, None, None]
    k = steepness.astype(np.float32)[:, None, None]
    low, high = _sigmoid(-k * t), _sigmoid(k * (1 - t))
    return ((_sigmoid(k * (images - t)) - low) / (high - low)).astype(np.float32)


def _sigmoid(x: Floats) -> Floats:
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def _stratified(y: Ints, shares: tuple[float, float]) -> tuple[Ints, Ints, Ints]:
    """Split row numbers so that each part has every class in the same proportion."""
    rng = np.random.default_rng(_SPLIT_SEED)
    parts: tuple[list[Ints], list[Ints], list[Ints]] = ([], [], [])
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        first = round(len(rows) * shares[0])
        second = first + round(len(rows) * shares[1])
        for part, chosen in zip(parts, np.split(rows, [first, second]), strict=True):
            part.append(chosen)
    first_part, second_part, third_part = (rng.permutation(np.concatenate(part)) for part in parts)
    return first_part, second_part, third_part
