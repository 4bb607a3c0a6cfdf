"""Usage summed by model, key, day or outcome: read from the hourly sums wherever they know it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Sum
from django.db.models.functions import Coalesce, TruncDate
from django.utils.translation import gettext

from accounts.models import ApiKey, Organization
from billing.forms import UsageFilterForm
from billing.models import Hold
from billing.templatetags.units import outcome
from catalog.models import ModelVersion

GROUPS = ("model", "key", "day", "outcome")
# What the hourly sums do not know: calls that were not charged.
_UNCHARGED = {"failed", "open"}


@dataclass(frozen=True, slots=True)
class Group:
    """What one model, key, day or outcome used.

    Attributes:
        label: As a person reads it.
        query: What the address must say to see its calls; empty if no filter can.
        share_permyriad: Its part of all that was spent, in 1/100 of a percent.
    """

    label: str
    query: str
    calls: int
    rows: int
    compute_ms: int
    cost_nanos: int
    share_permyriad: int


_Sums = list[int]


def by(form: UsageFilterForm, name: str) -> list[Group]:
    """Sum the calls of a filter by one of GROUPS; the dearest first, days newest first."""
    from_holds = name == "outcome" or form.data.get("outcome", "") in _UNCHARGED
    rows = list(_of_holds(form, name) if from_holds else _of_rollups(form, name))
    words = _WORDS[name](form.organization, rows)
    sums: dict[tuple[str, str], _Sums] = defaultdict(lambda: [0, 0, 0, 0])
    for row in rows:
        total = sums[words(row)]
        for place, value in enumerate((row["n"], row["r"], row["ms"], row["cost"])):
            total[place] += value
    spent = sum(total[3] for total in sums.values())
    groups = [
        Group(label, query, calls, units, ms, cost, cost * 10_000 // spent if spent else 0)
        for (label, query), (calls, units, ms, cost) in sums.items()
    ]
    if name == "day":
        return sorted(groups, key=lambda group: group.label, reverse=True)
    return sorted(groups, key=lambda group: (-group.cost_nanos, -group.calls, group.label))


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "model": ("model_version_id",),
    "key": ("api_key_id", "model_version_id"),
    "day": ("day",),
    "outcome": ("state", "failure", "usage__outcome"),
}


def _of_rollups(form: UsageFilterForm, name: str) -> Iterable[dict[str, Any]]:
    sums = form.rollups().order_by()
    if name == "day":
        sums = sums.annotate(day=TruncDate("hour"))
    summed: Iterable[dict[str, Any]] = sums.values(*_COLUMNS[name]).annotate(
        n=Sum("calls"), r=Sum("rows"), ms=Sum("compute_ms"), cost=Sum("cost_nanos")
    )
    return summed


def _of_holds(form: UsageFilterForm, name: str) -> Iterable[dict[str, Any]]:
    holds = form.holds().order_by()
    if name == "day":
        holds = holds.annotate(day=TruncDate("accepted_at"))
    summed: Iterable[dict[str, Any]] = holds.values(*_COLUMNS[name]).annotate(
        n=Count("pk"),
        r=Coalesce(Sum("usage__rows"), 0),
        ms=Coalesce(Sum("usage__compute_ms"), 0),
        cost=Coalesce(Sum("captured_nanos"), 0),
    )
    return summed


_Words = Callable[[dict[str, Any]], tuple[str, str]]


def _models(organization: Organization, rows: Iterable[dict[str, Any]]) -> _Words:
    used = ModelVersion.objects.filter(pk__in={row["model_version_id"] for row in rows})
    known = {row.pk: row.model.path for row in used.select_related("model__owner")}

    def words(row: dict[str, Any]) -> tuple[str, str]:
        path = known.get(row["model_version_id"] or 0)
        return (path, f"model={path}") if path else (gettext("Training"), "key=training")

    return words


def _keys(organization: Organization, rows: Iterable[dict[str, Any]]) -> _Words:
    known = {key.pk: str(key) for key in ApiKey.objects.visible_to(organization)}

    def words(row: dict[str, Any]) -> tuple[str, str]:
        key_id = row["api_key_id"] or 0
        if key_id:
            return known.get(key_id, f"#{key_id}"), f"key={key_id}"
        if row["model_version_id"]:
            return gettext("Browser"), "key=web"
        return gettext("Training"), "key=training"

    return words


def _days(organization: Organization, rows: Iterable[dict[str, Any]]) -> _Words:
    return lambda row: (f"{row['day']}", f"start={row['day']}&end={row['day']}")


def _outcomes(organization: Organization, rows: Iterable[dict[str, Any]]) -> _Words:
    def words(row: dict[str, Any]) -> tuple[str, str]:
        code = row["usage__outcome"] or row["failure"] or row["state"]
        is_open = row["state"] == Hold.State.AUTHORISED
        kind = "open" if is_open else "succeeded" if code == "succeeded" else "failed"
        return outcome(code), f"outcome={kind}"

    return words


_WORDS: Mapping[str, Callable[[Organization, Iterable[dict[str, Any]]], _Words]] = {
    "model": _models,
    "key": _keys,
    "day": _days,
    "outcome": _outcomes,
}
