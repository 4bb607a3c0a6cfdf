"""The steps in which texts are written: of all texts of a model together."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np

from inference.batch_files import giving_way
from inference.generation.texts import Writing
from inference.generation.wanted import Wanted
from inference.runtime.writers import WriterSession

logger = logging.getLogger(__name__)
# Texts that can wait are written for so long before live calls have a turn.
_SLICE_SECONDS = 0.02


def take(session: WriterSession, texts: Sequence[Writing]) -> None:
    """Take one step with every text; none of them has ended."""
    # Apart: a step would take as long as the longest piece of a prompt.
    reading = [text for text in texts if text.is_reading]
    writing = [text for text in texts if not text.is_reading]
    _take(session, reading)
    _take(session, writing)


def _take(session: WriterSession, texts: Sequence[Writing]) -> None:
    if not texts:
        return
    pieces = [text.next_piece() for text in texts]
    states = np.stack([text.state for text in texts])
    try:
        scores, after = session.read(pieces, states)
    except Exception:  # a model may raise anything
        logger.exception("%s texts", len(texts))
        for text in texts:
            text.fail("model_error")
        return
    for text, row, state in zip(texts, scores, after, strict=True):
        text.advance(row, state)


def begin(session: WriterSession, wanted: Sequence[Wanted], vocabulary: str) -> list[Writing]:
    """Return texts of which nothing has been written yet."""
    states = session.fresh(len(wanted))
    return [Writing(one, state, vocabulary) for one, state in zip(wanted, states, strict=True)]


def write(session: WriterSession, texts: Sequence[Writing]) -> Iterator[None]:
    """Write texts that nobody waits for, whenever live calls leave room.

    Yields:
        After each slice of time, until all have ended. Whoever is told may end some.
    """
    while any(not text.has_ended for text in texts):
        giving_way.wait()
        until = time.monotonic() + _SLICE_SECONDS
        while going := [text for text in texts if not text.has_ended]:
            take(session, going)
            if time.monotonic() >= until:
                break
        yield
