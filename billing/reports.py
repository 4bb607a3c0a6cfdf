"""How a run ended and what it used, as a worker reports it; what it costs follows from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from uuid import UUID

from billing.models import ShareVersion, UsageOrphan
from billing.outcomes import billed_percent
from billing.rating import PricePlan, for_source, plan_of, rate, share
from catalog.models import ModelVersion, PriceVersion


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run is billed by, frozen when it was admitted."""

    plan: PricePlan
    publisher_bps: int
    policy: Mapping[str, int]


@cache
def terms_of(
    price_version_id: int, share_version_id: int, model_version_id: int, source: str = ""
) -> Terms:
    """Return what was frozen at admission; all three rows never change.

    Args:
        source: How the run came; rows of batch files have a price of their own.
    """
    price = PriceVersion.objects.prefetch_related("components").get(pk=price_version_id)
    share_version = ShareVersion.objects.get(pk=share_version_id)
    policy = ModelVersion.objects.get(pk=model_version_id).outcome_policy
    return Terms(for_source(plan_of(price), source), share_version.publisher_bps, policy)


@dataclass(frozen=True)
class Report:
    """How one run ended and what it used. Without slots: what it cost is worked out once."""

    hold_id: UUID
    outcome: str
    terms: Terms
    quantities: Mapping[str, int]
    organization_id: int
    reserved_nanos: int
    accepted_at: datetime
    completed_at: datetime
    model_version_id: int | None = None
    failure: str = ""
    queue_us: int = 0
    run_us: int = 0
    batch_rows: int = 0
    worker: str = ""

    @cached_property
    def cost_nanos(self) -> int:
        """What the run is billed: its price by the outcome policy, at most what was reserved."""
        return min(self.uncapped_nanos, self.reserved_nanos)

    @cached_property
    def uncapped_nanos(self) -> int:
        """What the run would cost without the reservation."""
        percent = billed_percent(self.terms.policy, self.outcome)
        return share(rate(self.terms.plan, self.quantities), percent)

    @property
    def is_captured(self) -> bool:
        """Whether the run is charged; a failure that costs nothing is voided instead."""
        return self.outcome == "succeeded" or self.cost_nanos > 0


USAGE_COLUMNS = (
    *("hold_id", "organization_id", "model_version_id", "outcome", "rows", "compute_ms"),
    *("queue_us", "run_us", "batch_rows", "cost_nanos", "publisher_nanos", "platform_nanos"),
    *("uncapped_nanos", "worker", "occurred_at", "completed_at"),
    *("input_tokens", "output_tokens", "bytes"),
)


def usage_row(report: Report) -> tuple[object, ...]:
    """Return the row of a charged run's usage event."""
    cost = report.cost_nanos
    publisher = cost * report.terms.publisher_bps // 10_000
    return (
        report.hold_id,
        report.organization_id,
        report.model_version_id,
        report.outcome,
        report.quantities.get("row", 0),
        report.quantities.get("compute_ms", 0),
        report.queue_us,
        report.run_us,
        report.batch_rows,
        cost,
        publisher,
        cost - publisher,
        report.uncapped_nanos,
        report.worker,
        report.accepted_at,
        report.completed_at,
        report.quantities.get("input_token"),
        report.quantities.get("output_token"),
        report.quantities.get("byte"),
    )


def orphan(report: Report) -> UsageOrphan:
    """Return the row of a report that came too late."""
    return UsageOrphan(
        hold_id=report.hold_id,
        reason="hold_ended",
        report={
            "outcome": report.outcome,
            "quantities": dict(report.quantities),
            "worker": report.worker,
        },
    )
