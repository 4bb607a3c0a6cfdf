"""What a call is told about its caps: in headers, after the money was set aside.

`RateLimit` and `RateLimit-Policy` count calls, in the form of the IETF draft "RateLimit header
fields for HTTP"; `Mercato-Budget` counts money in the same form, with decimal amounts as strings.
"""

from __future__ import annotations

import time

from billing.holds import Admission
from billing.models import Unit
from billing.money import decimal_text

Header = tuple[bytes, bytes]
_DAY = 86_400
_WINDOW_SECONDS = {"day": _DAY, "month": 30 * _DAY}


def headers(admission: Admission) -> list[Header]:
    """Return the headers that say what is left of each cap."""
    now = int(time.time())
    money, calls, policies = [], [], []
    for member in admission.members:
        left, limit = admission.left[member.budget_id]
        closes = f";t={max(member.closes_at - now, 0)}" if member.closes_at else ""
        if member.unit == Unit.CALLS:
            calls.append(f'"{member.name}";r={left}{closes}')
            window = _WINDOW_SECONDS.get(member.name.split("-")[1])
            policies.append(f'"{member.name}";q={limit}' + (f";w={window}" if window else ""))
        else:
            money.append(f'"{member.name}";r="{decimal_text(left)}"{closes}')
    found = [(b"mercato-budget", ", ".join(money).encode())]
    if calls:
        found.append((b"ratelimit", ", ".join(calls).encode()))
        found.append((b"ratelimit-policy", ", ".join(policies).encode()))
    return found
