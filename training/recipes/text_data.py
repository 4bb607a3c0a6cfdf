"""Our own documents as text to learn from: read from disk, split, cut into windows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.recipes.catalogue import DOCS, VOCABULARY
from training.recipes.data import DataSet, Part

# Characters that a training reads in one go, and how far apart two readings begin.
WINDOW, STRIDE = 128, 64
_ROOT = Path(__file__).resolve().parent.parent.parent
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_LINES = re.compile(r"[|\n]")
# A table's cell that is shorter is a name, not a sentence.
_SENTENCE = 40
# Every so many paragraphs one chooses the epoch, and another is held out.
_PART = 20
_NUMBERS = {character: number for number, character in enumerate(VOCABULARY)}


def documents() -> list[Path]:
    """Return the files that the text comes from."""
    return [*sorted((_ROOT / "docs").glob("*.md")), _ROOT / "README.md", _ROOT / "CONTRIBUTING.md"]


def paragraphs() -> list[str]:
    """Return prose: without code and addresses; a paragraph, an item or a table's cell a line."""
    found: list[str] = []
    for path in documents():
        text = _LINK.sub(r"\1", _FENCE.sub("\n", path.read_text(encoding="utf-8")))
        for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
            line = " ".join(block.split())
            if block.lstrip().startswith("|"):
                cells = (cell.strip() for cell in _LINES.split(block))
                found += [cell for cell in cells if len(cell) >= _SENTENCE]
            elif line and not line.startswith(("<", "![")):
                found.append(line)
    return found


def encode(text: str) -> NDArray[np.int32]:
    """Return the number of each character."""
    return np.array([_NUMBERS.get(character, 0) for character in text], np.int32)


def load() -> DataSet:
    """Read the documents.

    Returns:
        Rows of `WINDOW` characters as numbers (whole, in float32, as all data sets are), and the
        characters that follow each.
    """
    lines = paragraphs()
    chosen: list[list[str]] = [[], [], []]
    for number, line in enumerate(lines):
        chosen[{7: 1, 17: 2}.get(number % _PART, 0)].append(line)
    return DataSet(DOCS, *(_windows("\n".join(part)) for part in chosen))


def _windows(text: str) -> Part:
    numbers = encode(text)
    starts = range(0, len(numbers) - WINDOW, STRIDE)
    rows = np.stack([numbers[start : start + WINDOW + 1] for start in starts])
    return Part(rows[:, :-1].astype(np.float32), rows[:, 1:].astype(np.int64))
