"""How a run ended → how much of its price is billed. Pure."""

from __future__ import annotations

from collections.abc import Mapping

OUTCOMES = ("succeeded", "model_error", "platform_error", "canceled")
DEFAULT_POLICY: Mapping[str, int] = {
    "succeeded": 100,
    "model_error": 0,
    "platform_error": 0,
    "canceled": 0,
}


def billed_percent(policy: Mapping[str, int], outcome: str) -> int:
    """Return the percentage of the price that an outcome costs.

    What the policy does not name costs what the default policy says.

    Raises:
        ValueError: The outcome is unknown, or the policy is not 0..100.
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"{outcome!r} is not one of {', '.join(OUTCOMES)}.")
    percent = policy.get(outcome, DEFAULT_POLICY[outcome])
    if not 0 <= percent <= 100:
        raise ValueError(f"{outcome} is billed at {percent} percent: must be 0..100.")
    return percent
