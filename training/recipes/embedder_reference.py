"""The sentence embedder a second time, in float64 and one sentence at a time: to compare with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.recipes.data import Floats
from training.recipes.embedder_graph import EPSILON, HEADS, LAYERS

Doubles = NDArray[np.float64]
_erf = np.vectorize(math.erf)


def embed(weights: Mapping[str, Floats], tokens: Sequence[int]) -> Doubles:
    """Return the vector of one sentence without padding."""
    exact = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    hidden = (
        exact["embeddings.word_embeddings.weight"][list(tokens)]
        + exact["embeddings.position_embeddings.weight"][: len(tokens)]
        + exact["embeddings.token_type_embeddings.weight"][0]
    )
    hidden = _normed(exact, "embeddings.LayerNorm", hidden)
    for number in range(LAYERS):
        prefix = f"encoder.layer.{number}."
        mixed = _dense(exact, f"{prefix}attention.output.dense", _attended(exact, prefix, hidden))
        hidden = _normed(exact, f"{prefix}attention.output.LayerNorm", hidden + mixed)
        wide = _dense(exact, f"{prefix}intermediate.dense", hidden)
        wide = wide * 0.5 * (1 + _erf(wide / math.sqrt(2)))
        narrow = _dense(exact, f"{prefix}output.dense", wide)
        hidden = _normed(exact, f"{prefix}output.LayerNorm", hidden + narrow)
    mean: Doubles = hidden.mean(0)
    return mean / np.linalg.norm(mean)


def _dense(weights: Mapping[str, Any], name: str, given: Doubles) -> Doubles:
    result: Doubles = given @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result


def _normed(weights: Mapping[str, Any], name: str, given: Doubles) -> Doubles:
    middle = given - given.mean(-1, keepdims=True)
    scaled = middle / np.sqrt((middle**2).mean(-1, keepdims=True) + EPSILON)
    result: Doubles = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return result


def _attended(weights: Mapping[str, Any], prefix: str, hidden: Doubles) -> Doubles:
    time, width = hidden.shape
    query, key, value = (
        _dense(weights, f"{prefix}attention.self.{name}", hidden)
        .reshape(time, HEADS, width // HEADS)
        .transpose(1, 0, 2)
        for name in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // HEADS)
    chances = np.exp(scores - scores.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    result: Doubles = (chances @ value).transpose(1, 0, 2).reshape(time, width)
    return result
