"""Runs a sentence embedder: tokens in, unit vectors out, without computing padding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from inference.runtime.sessions import Arrays, OnnxSession

# Rows of about the same length are computed together, padded to the longest of them. A row alone
# costs hardly more than one among others, so padding must be rare to be worth it; and more tokens
# than this gain nothing on a CPU: their activations leave the cache.
GROUP_TOKENS, PADDED = 1024, 1.05


class EmbedderSession(OnnxSession):
    """`text`, tokens padded with 0 (rows, longest) → `embedding` (rows, width), of length 1."""

    def run(self, arrays: Arrays, between: Callable[[], object] | None = None) -> Arrays:
        """Compute one batch.

        Args:
            between: Called before each group of rows: long texts take seconds.
        """
        tokens = arrays["text"]
        lengths = np.maximum((tokens != 0).sum(1), 1)
        order = lengths.argsort(kind="stable")
        parts = []
        for rows in groups(order, lengths):
            if between is not None:
                between()
            part = np.ascontiguousarray(tokens[rows, : lengths[rows[-1]]])
            parts.append(super().run({"text": part})["embedding"])
        vectors = np.concatenate(parts)
        found = np.empty_like(vectors)
        found[order] = vectors
        return {"embedding": found}


def groups(order: NDArray[np.intp], lengths: NDArray[np.int_]) -> list[NDArray[np.intp]]:
    """Cut rows, shortest first, into groups of few tokens, of which few are padding."""
    found: list[NDArray[np.intp]] = []
    start, real = 0, 0
    for end, row in enumerate(order):
        longest = int(lengths[row])
        padded = (end + 1 - start) * longest
        if end > start and padded > min(GROUP_TOKENS, PADDED * (real + longest)):
            found.append(order[start:end])
            start, real = end, 0
        real += longest
    return [*found, order[start:]]
