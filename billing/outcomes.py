"""How a run ended → how much of its price is billed: the one rule of sync, async and training.

Pure. A version's policy says what differs from the default; what it does not name, the default
decides. The texts are the same on the model's page, on receipts, in quotes and in the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import override

DEFAULT_POLICY: Mapping[str, int] = {
    "succeeded": 100,
    "model_error": 0,
    "platform_error": 0,
    "canceled": 0,
    "limit_reached": 0,
    "not_started": 0,
    "expired": 0,
}
OUTCOMES = tuple(DEFAULT_POLICY)
# No policy can charge for these: nothing was run, or nobody can say what.
ALWAYS_FREE = frozenset({"not_started", "expired"})
# A training that is canceled has used compute that its owner asked for.
TRAINING_POLICY: Mapping[str, int] = {**DEFAULT_POLICY, "canceled": 100}

TEXTS: Mapping[str, Promise] = {
    "succeeded": _("The run succeeds: there is a result."),
    "model_error": _("The model fails on a valid input."),
    "platform_error": _("The platform fails: a worker, the queue, or the model's files."),
    "canceled": _("You cancel the run after it has started."),
    "limit_reached": _("The run is stopped at the reserved amount, without a result."),
    "not_started": _("The run is canceled or refused before it starts."),
    "expired": _("No worker reports an end in time."),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One way a run can end, and what it costs.

    Attributes:
        text: In the reader's language.
    """

    outcome: str
    percent: int
    text: str


def billed_percent(policy: Mapping[str, int], outcome: str) -> int:
    """Return the percentage of the price that an outcome costs.

    What the policy does not name costs what the default policy says.

    Raises:
        ValueError: The outcome is unknown, or the policy is not 0..100.
    """
    if outcome not in DEFAULT_POLICY:
        raise ValueError(f"{outcome!r} is not one of {', '.join(OUTCOMES)}.")
    if outcome in ALWAYS_FREE:
        return 0
    percent = policy.get(outcome, DEFAULT_POLICY[outcome])
    if not 0 <= percent <= 100:
        raise ValueError(f"{outcome} is billed at {percent} percent: must be 0..100.")
    return percent


def complete(policy: Mapping[str, int]) -> dict[str, int]:
    """Return the percentage of every outcome, in the order in which they are shown."""
    return {outcome: billed_percent(policy, outcome) for outcome in OUTCOMES}


def lines(policy: Mapping[str, int]) -> list[Line]:
    """Return the policy as a person reads it, in the reader's language."""
    return [
        Line(outcome, percent, str(TEXTS[outcome])) for outcome, percent in complete(policy).items()
    ]


@cache
def texts() -> dict[str, dict[str, str]]:
    """Return what each outcome means, in both languages: for the API."""
    found: dict[str, dict[str, str]] = {outcome: {} for outcome in OUTCOMES}
    for name, code in (("en", "en"), ("zh", "zh-hans")):
        with override(code):
            for outcome in OUTCOMES:
                found[outcome][name] = str(TEXTS[outcome])
    return found
