"""One text under way in a predict worker: what it has read, what it has written, how it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from inference.generation.wanted import Wanted
from inference.generation.wire import CANCELED, Order
from inference.runtime.sampling import Floats, Stops, sample
from inference.runtime.writers import PIECE


@dataclass(slots=True)
class Writing:
    """A text that is read first and written then, a step at a time.

    Attributes:
        state: (hidden): what the network remembers of it.
        written: All of it, as far as it is.
        outcome: How it ended; empty while it is under way.
    """

    wanted: Wanted
    state: Floats
    vocabulary: str
    started_ns: int = field(default_factory=time.perf_counter_ns)
    output_tokens: int = 0
    written: str = ""
    outcome: str = ""
    reason: str = ""
    _read: int = 0
    _last: int = 0
    _stops: Stops = field(init=False)
    _chance: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._stops = Stops(self.wanted.stops)
        self._chance = self.wanted.choice.generator()

    @property
    def is_reading(self) -> bool:
        """Whether some of the prompt has not been read."""
        return self._read < len(self.wanted.prompt)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is written."""
        return bool(self.outcome)

    def next_piece(self) -> NDArray[np.int32]:
        """Return what the network reads next: some of the prompt, or what was written last."""
        if not self.is_reading:
            return np.array([self._last], np.int32)
        piece = self.wanted.prompt[self._read : self._read + PIECE]
        self._read += len(piece)
        return piece

    def advance(self, scores: Floats, state: Floats) -> None:
        """Take what the network made of the piece, and write a character if the prompt is read."""
        self.state = state
        if self.is_reading:
            return
        if not np.isfinite(scores).all():
            self.fail("model_error")
            return
        self._last = sample(scores, self.wanted.choice, self._chance)
        self.output_tokens += 1
        more, is_stopped = self._stops.feed(self.vocabulary[self._last])
        self.written += more
        if is_stopped:
            self.outcome, self.reason = "succeeded", "stop"
        elif self.output_tokens >= self.wanted.max_tokens:
            self.written += self._stops.rest()
            self.outcome, self.reason = "succeeded", "length"

    def fail(self, outcome: str) -> None:
        """End without an answer."""
        self.outcome = outcome


@dataclass(slots=True)
class Text(Writing):
    """A text that a gateway has ordered, and listens to.

    Attributes:
        sent: How many characters the gateway has been told.
        is_dropped: Nobody needs to be told, and the hold has ended.
    """

    order: Order = field(kw_only=True)
    sent: int = 0
    is_dropped: bool = False

    @classmethod
    def of(cls, order: Order, state: Floats, vocabulary: str) -> Text:
        """Begin what was ordered."""
        return cls(order.wanted, state, vocabulary, order=order)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is written."""
        return bool(self.outcome) or self.is_dropped

    @property
    def unsent(self) -> str:
        """What was written and not told to the gateway yet."""
        return self.written[self.sent :]

    def is_awaited(self) -> bool:
        """Whether the gateway has not lost its patience yet."""
        seconds = (time.perf_counter_ns() - self.started_ns) / 1e9
        return seconds < 2 * settings.PREDICT_TIMEOUT_SECONDS

    def leave(self, gone: bytes | None, *, is_heard: bool) -> None:
        """End if nobody waits any more.

        What a caller has given up costs what was written until then, by the outcome policy; before
        the first character it costs nothing. If the gateway has died, nobody has got the text.
        """
        if self.has_ended:
            return
        if gone == CANCELED:
            self.outcome = "canceled" if self.output_tokens else "not_started"
        elif gone is not None:
            self.is_dropped = True
        elif not is_heard:
            self.outcome = "platform_error"
