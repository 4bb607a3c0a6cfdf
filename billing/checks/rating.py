"""The past costs what it cost: stored quantities, rated again by the stored price."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from django.db.models import Count

from billing.checks.trouble import Trouble
from billing.errors import UnratedError
from billing.models import UsageEvent
from billing.outcomes import TRAINING_POLICY, billed_percent
from billing.rating import PricePlan, for_source, plan_of, rate, share
from catalog.models import ModelVersion, PriceVersion

_UNITS = ("rows", "compute_ms", "input_tokens", "output_tokens", "bytes")


def usage_is_rated_by_its_price() -> list[Trouble]:
    """Rating the stored quantities with the stored price and policy gives what was charged."""
    plans, policies = cache(_plan), cache(_policy)
    # Equal calls are rated once.
    equal = (
        UsageEvent.objects.order_by()
        .values_list(
            *("organization_id", "hold__price_version", "hold__source", "model_version", "outcome"),
            *("uncapped_nanos", "cost_nanos", "hold__reserved_nanos"),
            *_UNITS,
        )
        .annotate(calls=Count("pk"))
    )
    found = []
    for row in equal.iterator(chunk_size=2000):
        owner, price_id, source, version_id, outcome, uncapped, cost, reserved, *units, calls = row
        usage = UsageEvent(**dict(zip(_UNITS, units, strict=True)))
        again = _rated(for_source(plans(price_id), source), usage.quantities)
        if again is not None:
            again = share(again, billed_percent(policies(version_id), outcome))
        if again is None or (uncapped, cost) != (again, min(again, reserved)):
            found.append(
                Trouble(
                    f"price:{price_id}:{owner}",
                    f"{calls} equal calls by price {price_id} cost {cost} each, not what they used",
                    owner,
                    again,
                    uncapped,
                )
            )
    return found


def _rated(plan: PricePlan, quantities: Mapping[str, int]) -> int | None:
    try:
        return rate(plan, quantities)
    except UnratedError:
        return None


def _plan(price_version_id: int) -> PricePlan:
    return plan_of(PriceVersion.objects.prefetch_related("components").get(pk=price_version_id))


def _policy(version_id: int | None) -> Mapping[str, int]:
    if version_id is None:
        return TRAINING_POLICY
    policy: Mapping[str, int] = ModelVersion.objects.get(pk=version_id).outcome_policy
    return policy
