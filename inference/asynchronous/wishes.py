"""How a caller wants to be answered: the headers `Prefer` and `Cancel-After`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from accounts.errors import InvalidRequestError

# A gateway does not hold a request longer; the prediction goes on.
MAX_WAIT_SECONDS = 60.0
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_LENGTH = re.compile(r"(\d{1,7})(s|m|h|)")


@dataclass(frozen=True, slots=True)
class Wish:
    """An asynchronous prediction is wanted.

    Attributes:
        wait_seconds: How long to wait for its end before answering 202.
        applied: What of `Prefer` is followed: the header `Preference-Applied`.
        start_within: Seconds in which it must begin, or fail; None: the site's longest time.
        webhook: The address of the endpoint that is to be told; empty: those that ask for it.
    """

    wait_seconds: float
    applied: str
    start_within: int | None = None
    webhook: str = ""


def read(headers: Mapping[str, str], *, webhook: str = "", is_later: bool = False) -> Wish | None:
    """Read what a caller prefers; None: the answer when it is done, as by default.

    A preference that is not understood is left aside, as RFC 7240 asks.

    Args:
        headers: By lower-case name.
        webhook: The field `webhook` of the body.
        is_later: It runs later even if the headers do not ask for it.

    Raises:
        InvalidRequestError: `Cancel-After` is no length of time, or it or `webhook` is given for
            a prediction that is not asynchronous.
    """
    start_within = _length(headers.get("cancel-after", ""))
    preferences = dict(_preferences(headers.get("prefer", "")))
    is_async = "respond-async" in preferences
    wait = preferences.get("wait", "")
    waits = wait.isascii() and wait.isdecimal() and len(wait) <= 7
    if not is_later and not is_async and not waits:
        if start_within is not None or webhook:
            raise InvalidRequestError(
                "Only with `Prefer: respond-async` or `Prefer: wait=N`.",
                param="Cancel-After" if start_within is not None else "webhook",
            )
        return None
    applied = ["respond-async"] if is_async else []
    applied += [f"wait={int(wait)}"] if waits else []
    return Wish(
        wait_seconds=min(float(int(wait)), MAX_WAIT_SECONDS) if waits else 0.0,
        applied=", ".join(applied),
        start_within=start_within,
        webhook=webhook,
    )


def _preferences(header: str) -> Iterator[tuple[str, str]]:
    # Of a preference that is given twice the first counts: dict() keeps the last.
    for part in reversed(header[:1000].split(",")):
        name, _, value = part.partition(";")[0].partition("=")
        yield name.strip().lower(), value.strip().strip('"')


def _length(text: str) -> int | None:
    if not text:
        return None
    match = _LENGTH.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match and match[1].isascii() else 0
    if not seconds:
        raise InvalidRequestError(
            "`Cancel-After` is a length of time such as 30s, 5m or 1h.", param="Cancel-After"
        )
    return seconds
