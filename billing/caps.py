"""What a caller is told about its caps, in headers: after money was set aside, or was refused.

`RateLimit` and `RateLimit-Policy` count calls. `Mercato-Budget` counts money in the same form, with
decimal amounts as strings: the other two know whole numbers only. The form is
accounts.rate_headers' to know.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from accounts import rate_headers
from accounts.rate_headers import Header
from billing.budgets import Member, member
from billing.models import Budget, Hold, SpendLimit, Unit
from billing.money import decimal_text

if TYPE_CHECKING:
    # billing.holds says what was refused with the headers of this module.
    from billing.holds import Admission

_DAY = 86_400


@lru_cache(maxsize=64)
def headers(admission: Admission) -> tuple[Header, ...]:
    """Return the headers of a run whose money is set aside; written once per batch."""
    return rate_headers.encode(texts(admission.members, admission.left))


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
        closes = max(one.closes_at - now, 0) if one.closes_at else None
        if one.unit == Unit.CALLS:
            calls.append(rate_headers.state(one.name, rest, closes))
            policies.append(rate_headers.policy(one.name, limit, _window(one)))
        else:
            money.append(rate_headers.state(one.name, f'"{decimal_text(rest)}"', closes))
    found = [("Mercato-Budget", ", ".join(money))] if money else []
    return (*found, *rate_headers.texts(calls, policies))


def _window(one: Member) -> int | None:
    """Return how many seconds the window has; a lifetime has none, a month its own."""
    if not one.closes_at:
        return None
    if one.name.split("-")[1] == SpendLimit.Window.DAY:
        return _DAY
    last_day = datetime.fromtimestamp(one.closes_at, UTC) - timedelta(days=1)
    return last_day.day * _DAY
