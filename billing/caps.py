"""What a caller is told about its caps, in headers: after money was set aside, or was refused.

`RateLimit` and `RateLimit-Policy` count calls. `Mercato-Budget` counts money in the same form, with
decimal amounts as strings: the other two know whole numbers only.

Source:
    draft-ietf-httpapi-ratelimit-headers-10: lists of strings with the parameters `r` (left) and
    `t` (seconds until the window closes), and `q` (quota) and `w` (the window's seconds).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from billing.budgets import Member, member
from billing.models import Budget, Hold, SpendLimit, Unit
from billing.money import decimal_text

if TYPE_CHECKING:
    # billing.holds says what was refused with the headers of this module.
    from billing.holds import Admission

Header = tuple[bytes, bytes]
_DAY = 86_400
# Numbers of a header have at most fifteen digits (RFC 9651).
_LARGEST = 10**15 - 1


@lru_cache(maxsize=64)
def headers(admission: Admission) -> tuple[Header, ...]:
    """Return the headers of a run whose money is set aside; written once per batch."""
    return tuple(
        (name.lower().encode(), value.encode())
        for name, value in texts(admission.members, admission.left)
    )


def of_budgets(budgets: Iterable[Budget]) -> tuple[tuple[str, str], ...]:
    """Return the headers for budgets as they were read."""
    rows = list(budgets)
    left = {row.pk: (row.available, row.limit) for row in rows}
    return texts(sorted(member(row) for row in rows), left)


def of_hold(hold: Hold) -> tuple[tuple[str, str], ...]:
    """Return the headers for the caps a run is counted against, as they are now."""
    return of_budgets(hold.budget_set.budgets.all())


def texts(
    members: Iterable[Member], left: Mapping[int, tuple[int, int]]
) -> tuple[tuple[str, str], ...]:
    """Write headers.

    Args:
        left: Budget id → (what can still be set aside, the cap), in the budget's unit.
    """
    now = int(time.time())
    money, calls, policies = [], [], []
    for one in members:
        rest, limit = left[one.budget_id]
        rest = max(rest, 0)
        closes = f";t={max(one.closes_at - now, 0)}" if one.closes_at else ""
        if one.unit == Unit.CALLS:
            calls.append(f'"{one.name}";r={min(rest, _LARGEST)}{closes}')
            policies.append(f'"{one.name}";q={min(limit, _LARGEST)}{_window(one)}')
        else:
            money.append(f'"{one.name}";r="{decimal_text(rest)}"{closes}')
    found = [("Mercato-Budget", ", ".join(money))] if money else []
    if calls:
        found += [("RateLimit", ", ".join(calls)), ("RateLimit-Policy", ", ".join(policies))]
    return tuple(found)


def _window(one: Member) -> str:
    """Write how long the window is; a lifetime has no length, a month has its own."""
    if not one.closes_at:
        return ""
    if one.name.split("-")[1] == SpendLimit.Window.DAY:
        return f";w={_DAY}"
    last_day = datetime.fromtimestamp(one.closes_at, UTC) - timedelta(days=1)
    return f";w={last_day.day * _DAY}"
