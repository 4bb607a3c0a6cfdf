"""Cold starts: whether a version is ready, and how long its callers will wait if it is not."""

from __future__ import annotations

import math
import re
from typing import Any

from inference import dispatch, routing, starts
from inference.errors import ModelStartingError
from inference.versions import Served

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*(\d{1,6})\s*(?:$|[,;])", re.IGNORECASE)


def patience(prefer: str) -> int | None:
    """Read how many seconds a caller will wait, from the header `Prefer: wait=N`."""
    found = _WAIT.search(prefer)
    return int(found[1]) if found else None


def seconds_left(version_id: int) -> float:
    """Return how much longer a version will take until it is ready; 0 if it is.

    Worked out from earlier loads, less the time that a load under way has taken.
    """
    if routing.is_warm(version_id):
        return 0.0
    left = starts.estimate_ms(version_id) - (routing.waited_ms(version_id) or 0)
    return max(left, 1) / 1000


def state(version_id: int) -> dict[str, Any]:
    """Return `ready`, `starting` or `cold`, and the seconds until it is ready, as JSON."""
    if routing.is_warm(version_id):
        return {"state": "ready", "ready_in_seconds": 0.0}
    is_loading = routing.waited_ms(version_id) is not None
    return {
        "state": "starting" if is_loading else "cold",
        "ready_in_seconds": seconds_left(version_id),
    }


def require_in_time(served: Served, wait: int) -> None:
    """Have a cold version loaded, and refuse a call that will not wait for it.

    Raises:
        ModelStartingError: It takes longer than `wait` seconds; says how long.
    """
    left = seconds_left(served.version_id)
    if left <= wait:
        return
    dispatch.load(served.version_id)
    seconds = math.ceil(left)
    error = ModelStartingError(
        f"{served.path} is being loaded, which takes about {seconds} s. Nothing was charged."
    )
    error.retry_after = seconds
    raise error
