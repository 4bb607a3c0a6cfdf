"""What a caller is told about its limits: how much is left, or which one stood in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from accounts import rate_headers
from accounts.limits import WINDOW_SECONDS, Limit, Unit
from accounts.rate_headers import Header, Text
from inference.errors import RateLimitedError, TooManyRowsError
from inference.limits.script import Refusal, Use, key_of

_UNITS = {Unit.ROWS: "rows", Unit.CONCURRENCY: "concurrent-requests"}
_COUNTED = {
    Unit.REQUESTS: "requests per minute",
    Unit.ROWS: "rows per minute",
    Unit.CONCURRENCY: "requests at a time",
}


class Standing:
    """How much of a caller's limits is left; shared by all its requests of a batch."""

    def __init__(self, limits: Sequence[Limit], uses: Mapping[str, Use]) -> None:
        self.limits = limits
        self._uses = uses

    def left(self, limit: Limit) -> int:
        """Return what is left of a limit."""
        return max(limit.quota - self._uses[key_of(limit)].used, 0)

    def opens(self, limit: Limit) -> int | None:
        """Return in how many seconds more of it is left; None: time does not help."""
        if limit.unit == Unit.CONCURRENCY:
            return None
        return _seconds(self._uses[key_of(limit)].opens_ms)

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """The headers: one entry per limit, and what the `openai` package's users read."""
        states, policies = [], []
        for each in self.limits:
            window = None if each.unit == Unit.CONCURRENCY else WINDOW_SECONDS
            unit = _UNITS.get(Unit(each.unit), "")
            states.append(rate_headers.state(each.name, self.left(each), self.opens(each)))
            policies.append(rate_headers.policy(each.name, each.quota, window, unit))
        return (*rate_headers.texts(states, policies), *self._openai())

    @cached_property
    def headers(self) -> tuple[Header, ...]:
        """The same, as ASGI sends them."""
        return rate_headers.encode(self.texts)

    def _openai(self) -> tuple[Text, ...]:
        requests = [each for each in self.limits if each.unit == Unit.REQUESTS]
        if not requests:
            return ()
        least = min(requests, key=self.left)
        return (
            ("x-ratelimit-limit-requests", str(least.quota)),
            ("x-ratelimit-remaining-requests", str(self.left(least))),
            ("x-ratelimit-reset-requests", f"{self.opens(least)}s"),
        )

    def refuse(self, refusal: Refusal) -> RateLimitedError:
        """Return the refusal that tells the caller which limit it was and when to come back."""
        limit = refusal.limit
        error = RateLimitedError(
            f"The limit {limit.name} is {limit.quota} {_COUNTED[Unit(limit.unit)]}. "
            "Nothing was charged."
        )
        error.retry_after = max(_seconds(refusal.wait_ms), 1)
        error.headers = self.texts
        return error


def too_many_rows(limit: Limit, rows: int) -> TooManyRowsError:
    """Return why a request can never be let through."""
    return TooManyRowsError(
        f"This request has {rows} rows, and the limit {limit.name} is {limit.quota} per minute. "
        "Nothing was charged."
    )


def _seconds(milliseconds: int) -> int:
    """Round up: who waits so long must not come too early."""
    return -(-milliseconds // 1000)
