"""Runs a recurrent text model: whole prompts at once, then one character after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.runtime.sessions import Arrays, OnnxSession

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
# Prompts are read in pieces, so that texts under way do not wait for a long one.
PIECE = 128


class WriterSession(OnnxSession):
    """ids (rows, time), lengths (rows), state (rows, hidden) → logits, next_state."""

    def __init__(self, path: Path, *, threads: int) -> None:
        super().__init__(path, threads=threads)
        state = next(item for item in self._session.get_inputs() if item.name == "state")
        self._hidden = int(state.shape[1])

    def fresh(self, rows: int) -> Floats:
        """Return the states of texts that have not begun."""
        return np.zeros((rows, self._hidden), np.float32)

    def read(self, pieces: Sequence[Ints], states: Floats) -> tuple[Floats, Floats]:
        """Read some characters of each text.

        Args:
            pieces: Per text at least one character, as numbers.
            states: (rows, hidden)

        Returns:
            Scores of the next character, (rows, characters), and the new states.
        """
        longest = max(len(piece) for piece in pieces)
        ids = np.zeros((len(pieces), longest), np.int32)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = piece
        lengths = np.array([len(piece) for piece in pieces], np.int32)
        found = super().run({"ids": ids, "lengths": lengths, "state": states})
        return found["logits"], found["next_state"]

    def run(self, arrays: Arrays) -> Arrays:
        """Score what follows prompts of one length: `prompt` (rows, time) → `completion`."""
        prompts = arrays["prompt"]
        scores, _ = self.read(list(prompts), self.fresh(len(prompts)))
        return {"completion": scores}
