"""Hourly sums of usage, for pages that must load fast however much was used.

They follow from usage: `rebuild` makes the same rows again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count, F, Sum
from django.db.models.functions import Coalesce, TruncHour

from accounts.models import Organization
from billing import wallets
from billing.finished import Finished
from billing.models import UsageEvent, UsageRollup


class Key(NamedTuple):
    """What a rollup is about; 0 means none."""

    organization_id: int
    api_key_id: int
    model_version_id: int
    hour: datetime


class Sums(NamedTuple):
    """What a rollup says."""

    calls: int
    rows: int
    compute_ms: int
    cost_nanos: int
    publisher_nanos: int


NOTHING = Sums(0, 0, 0, 0, 0)


def by_hour(organization: Organization, holds: Iterable[Finished]) -> dict[Key, Sums]:
    """Sum charges of an organization."""
    sums: dict[Key, list[int]] = defaultdict(lambda: [0] * len(NOTHING))
    for hold in holds:
        if hold.captured_nanos is None:
            continue
        hour = hold.occurred_at.replace(minute=0, second=0, microsecond=0)
        row = sums[Key(organization.pk, hold.api_key_id or 0, hold.model_version_id or 0, hour)]
        added = (1, hold.rows, hold.compute_ms, hold.captured_nanos, hold.publisher_nanos)
        for place, value in enumerate(added):
            row[place] += value
    return {key: Sums(*values) for key, values in sums.items()}


def add(sums: Mapping[Key, Sums]) -> None:
    """Add to the rollups, in the order of the unique key: locks never cross."""
    for key, more in sorted(sums.items()):
        rollup, _ = UsageRollup.objects.get_or_create(**key._asdict())
        changes = {name: F(name) + value for name, value in more._asdict().items()}
        UsageRollup.objects.filter(pk=rollup.pk).update(**changes)


def from_usage(organization: Organization | None = None) -> dict[Key, Sums]:
    """Work out what the rollups must say, from settled usage alone.

    Args:
        organization: Only its own; None: everybody's.
    """
    settled = UsageEvent.objects.filter(hold__settlement__isnull=False)
    if organization is not None:
        settled = settled.filter(organization=organization)
    grouped = (
        settled.order_by()
        .annotate(
            hour=TruncHour("occurred_at"),
            key_id=Coalesce("hold__api_key_id", 0),
            version_id=Coalesce("hold__model_version_id", 0),
        )
        .values_list("organization_id", "key_id", "version_id", "hour")
        .annotate(
            calls=Count("pk"),
            row_sum=Sum("rows"),
            compute=Sum("compute_ms"),
            cost=Sum("cost_nanos"),
            publisher=Sum("publisher_nanos"),
        )
    )
    return {Key(*row[:4]): Sums(*map(int, row[4:])) for row in grouped}


def stored(organization: Organization | None = None) -> dict[Key, Sums]:
    """Return what the rollups say."""
    rows = UsageRollup.objects.order_by()
    if organization is not None:
        rows = rows.filter(organization=organization)
    return {
        Key(*row[:4]): Sums(*row[4:])
        for row in rows.values_list("organization_id", *Key._fields[1:], *Sums._fields)
    }


def rebuild(organization: Organization) -> int:
    """Make an organization's rollups say what its usage says; returns how many rows changed.

    The settler adds to them under the wallet's lock, so it waits meanwhile, and nothing is lost.
    """
    with transaction.atomic():
        wallets.lock(organization)
        right, is_there = from_usage(organization), stored(organization)
        wrong = [key for key, sums in is_there.items() if right.get(key) != sums]
        missing = [key for key, sums in right.items() if is_there.get(key) != sums]
        for key in wrong:
            UsageRollup.objects.filter(**key._asdict()).delete()
        UsageRollup.objects.bulk_create(
            UsageRollup(**key._asdict(), **right[key]._asdict()) for key in sorted(missing)
        )
    return len(set(wrong) | set(missing))
