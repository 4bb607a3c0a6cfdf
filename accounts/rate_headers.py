"""How `RateLimit` and `RateLimit-Policy` are written, for caps in calls and for limits per minute.

Source:
    draft-ietf-httpapi-ratelimit-headers-10: lists of strings with the parameters `r` (left) and
    `t` (seconds until more is left), and `q` (quota), `qu` (what it counts) and `w` (the window's
    seconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import AnyStr

Text = tuple[str, str]
Header = tuple[bytes, bytes]
# Numbers of a header have at most fifteen digits (RFC 9651).
_LARGEST = 10**15 - 1


def state(name: str, left: int | str, opens: int | None) -> str:
    """Write what is left of one quota.

    Args:
        left: A number, or a string that is quoted already.
        opens: Seconds until more is left; None: time does not help.
    """
    number = min(left, _LARGEST) if isinstance(left, int) else left
    return f'"{name}";r={number}' + ("" if opens is None else f";t={opens}")


def policy(name: str, quota: int, window: int | None, unit: str = "") -> str:
    """Write one quota.

    Args:
        window: Seconds; None: the quota has no window.
        unit: What it counts, if it does not count requests.
    """
    counts = f';qu="{unit}"' if unit else ""
    return f'"{name}";q={min(quota, _LARGEST)}{counts}' + ("" if window is None else f";w={window}")


def texts(states: Sequence[str], policies: Sequence[str]) -> tuple[Text, ...]:
    """Return the two headers; none if there is no quota."""
    if not states:
        return ()
    return ("RateLimit", ", ".join(states)), ("RateLimit-Policy", ", ".join(policies))


def encode(headers: Iterable[Text]) -> tuple[Header, ...]:
    """Return headers as ASGI sends them."""
    return tuple((name.lower().encode(), value.encode()) for name, value in headers)


def join(
    comma: AnyStr, *parts: Iterable[tuple[AnyStr, AnyStr]]
) -> tuple[tuple[AnyStr, AnyStr], ...]:
    """Return the headers of several sources; lists of the same name become one list."""
    found: dict[AnyStr, list[AnyStr]] = {}
    for name, value in (header for part in parts for header in part):
        found.setdefault(name, []).append(value)
    return tuple((name, comma.join(values)) for name, values in found.items())
