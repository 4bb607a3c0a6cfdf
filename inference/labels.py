"""What workers can do, what versions ask for, and whether the one is enough for the other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

_NUMBER = re.compile(r"\d{1,18}(\.\d{1,9})?")


def satisfy(labels: Mapping[str, str], needed: Mapping[str, str]) -> bool:
    """Whether a worker with these labels may run what needs those.

    A number asks for as much or more, anything else for just that.
    """
    return all(_is_enough(labels.get(name), value) for name, value in needed.items())


def _is_enough(has: str | None, needed: str) -> bool:
    if has is None:
        return False
    if _NUMBER.fullmatch(has) and _NUMBER.fullmatch(needed):
        return Decimal(has) >= Decimal(needed)
    return has == needed
