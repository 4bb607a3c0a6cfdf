"""Hourly sums of usage, for pages that must load fast however much was used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.db.models import F

from accounts.models import Organization
from billing.finished import Finished
from billing.models import UsageRollup


def add(organization: Organization, holds: Iterable[Finished]) -> None:
    """Add charges to their hours, in the order of the unique key: locks never cross."""
    sums: dict[tuple[int, int, datetime], list[int]] = defaultdict(lambda: [0] * 5)
    for hold in holds:
        if hold.captured_nanos is None:
            continue
        hour = hold.occurred_at.replace(minute=0, second=0, microsecond=0)
        row = sums[hold.api_key_id or 0, hold.model_version_id or 0, hour]
        added = (1, hold.rows, hold.compute_ms, hold.captured_nanos, hold.publisher_nanos)
        for place, value in enumerate(added):
            row[place] += value
    for (key_id, version_id, hour), values in sorted(sums.items(), key=lambda item: item[0]):
        rollup, _ = UsageRollup.objects.get_or_create(
            organization=organization, api_key_id=key_id, model_version_id=version_id, hour=hour
        )
        UsageRollup.objects.filter(pk=rollup.pk).update(
            calls=F("calls") + values[0],
            rows=F("rows") + values[1],
            compute_ms=F("compute_ms") + values[2],
            cost_nanos=F("cost_nanos") + values[3],
            publisher_nanos=F("publisher_nanos") + values[4],
        )
