"""Small changes to images, so that digits drawn by other hands are recognised too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.recipes.data import SIDE, Floats, stroke

_ROTATION = np.deg2rad(8.0)
_SCALE = 0.1
# The digits of the bundled data are narrow; people also draw wide ones.
_WIDER, _WIDTH = 0.15, 0.2
_SHEAR = 0.12
_SHIFT = 2.0


def varied(images: Floats, rng: np.random.Generator) -> Floats:
    """Return the images turned, scaled, slanted, moved and drawn with another pen."""
    count = len(images)
    moved = _moved(images, rng)
    threshold = rng.uniform(0.25, 0.8, count)
    steepness = rng.uniform(4, 16, count)
    return np.clip(stroke(moved, threshold, steepness), 0, 1)


def _moved(images: Floats, rng: np.random.Generator) -> Floats:
    count = len(images)
    angle = rng.normal(0, _ROTATION, count)
    size = np.exp(rng.normal(0, _SCALE, count))
    wide = np.exp(rng.normal(_WIDER, _WIDTH, count))
    slant = rng.normal(0, _SHEAR, count)
    shift = rng.normal(0, _SHIFT, (count, 2)).clip(-4, 4)
    cos, sin = np.cos(angle), np.sin(angle)
    # The inverse map: where each pixel of the result comes from.
    matrix = np.empty((count, 2, 2), np.float32)
    matrix[:, 0, 0] = cos / size
    matrix[:, 0, 1] = -sin / size
    matrix[:, 1, 0] = (sin + slant) / (size * wide)
    matrix[:, 1, 1] = cos / (size * wide)
    middle = (SIDE - 1) / 2
    grid = np.stack(np.meshgrid(*[np.arange(SIDE)] * 2, indexing="ij"), -1).reshape(-1, 2) - middle
    places = grid.astype(np.float32) @ matrix.transpose(0, 2, 1) + (middle - shift)[:, None, :]
    return _sampled(images, places.astype(np.float32))


def _sampled(images: Floats, places: NDArray[np.float32]) -> Floats:
    """Read images between pixels, bilinear; outside is black."""
    count = len(images)
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2))).reshape(count, -1)
    width = SIDE + 3
    places = np.clip(places + 1, 0, SIDE + 1)
    corner = places.astype(np.int64)
    part = places - corner
    start = corner[..., 0] * width + corner[..., 1]
    rows, columns = part[..., 0], part[..., 1]

    def at(offset: int) -> Floats:
        values: Floats = np.take_along_axis(padded, start + offset, 1)
        return values

    upper = at(0) * (1 - columns) + at(1) * columns
    lower = at(width) * (1 - columns) + at(width + 1) * columns
    mixed = upper * (1 - rows) + lower * rows
    return np.asarray(mixed, np.float32).reshape(count, SIDE, SIDE)
