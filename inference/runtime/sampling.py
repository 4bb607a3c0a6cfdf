"""Chooses the next character of each text from its scores, and cuts texts at their stops."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Choice:
    """How to choose.

    Attributes:
        temperature: 0 takes the likeliest; 1 follows the model; more is wilder.
        top_p: Only the likeliest characters are chosen from, whose chances add up to this.
        seed: The same seed, prompt and version give the same text.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def generator(self) -> np.random.Generator:
        """Return the source of chance of one text."""
        return np.random.default_rng(self.seed)


def sample(scores: Floats, choice: Choice, generator: np.random.Generator) -> int:
    """Choose from the scores of one text: (characters) → the number of one.

    Number 0 is the character that is not known; it is never chosen.
    """
    known = scores[1:].astype(np.float64)
    if choice.temperature == 0:
        return int(known.argmax()) + 1
    known = (known - known.max()) / choice.temperature
    chances = np.exp(known)
    chances /= chances.sum()
    if choice.top_p < 1:
        chances = _nucleus(chances, choice.top_p)
    edges = chances.cumsum()
    # The sum may end a hair below 1.
    place = int(edges.searchsorted(generator.random() * edges[-1], side="right"))
    return min(place, len(edges) - 1) + 1


def _nucleus(chances: NDArray[np.float64], top_p: float) -> NDArray[np.float64]:
    """Keep the likeliest whose chances add up to `top_p`; at least one stays."""
    order = chances.argsort()[::-1]
    before = chances[order].cumsum() - chances[order]
    kept = order[before < max(top_p, 1e-12)]
    found = np.zeros_like(chances)
    found[kept] = chances[kept]
    return found


@dataclass(slots=True)
class Stops:
    """Holds back what may be the beginning of a stop, so that no part of one is sent."""

    stops: tuple[str, ...]
    _held: str = field(default="", init=False)

    def feed(self, text: str) -> tuple[str, bool]:
        """Take one more character; returns what may be sent, and whether a stop is complete."""
        held = self._held + text
        for stop in self.stops:
            if held.endswith(stop):
                self._held = ""
                return held[: -len(stop)], True
        keep = self._keep(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep], False

    def _keep(self, held: str) -> int:
        """Return how many characters at the end may begin a stop."""
        longest = max((len(stop) - 1 for stop in self.stops), default=0)
        for size in range(min(longest, len(held)), 0, -1):
            if any(stop.startswith(held[-size:]) for stop in self.stops):
                return size
        return 0

    def rest(self) -> str:
        """Return what was held back: no stop has come of it."""
        held, self._held = self._held, ""
        return held
