"""What the catalogue shows: models with their price and version, in as few queries as possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.models import Count
from django.utils.functional import Promise

from accounts.models import Organization
from catalog import search, words
from catalog.models import MLModel, ModelVersion, PriceVersion
from catalog.models.models import MLModelQuerySet


@dataclass(frozen=True, slots=True)
class Entry:
    """A model as a card shows it."""

    model: MLModel
    version: ModelVersion
    price: PriceVersion | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a filter, with how many models it leads to."""

    value: str
    label: str
    count: int
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader looks for."""

    query: str = ""
    task: str = ""
    framework: str = ""

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the catalogue."""
        return bool(self.query or self.task or self.framework)


def find(organization: Organization | None, wanted: Wanted) -> MLModelQuerySet:
    """Return the models a reader may see that match."""
    return _matching(_on_sale(organization), wanted)


def versions(model: MLModel, organization: Organization | None) -> list[ModelVersion]:
    """Return the versions a reader may see, newest first: all of them for the owner."""
    found = model.versions.prefetch_related("artifacts")
    if organization != model.owner:
        found = found.exclude(status=ModelVersion.Status.DRAFT)
    listed = list(found)
    for version in listed:
        version.model = model
    return listed


def featured(count: int) -> list[Entry]:
    """Return the models of the front page: the oldest ones, which the site starts with."""
    return entries(_on_sale(None).order_by("created_at", "pk")[:count])


def example_of(found: list[Entry]) -> Entry | None:
    """Return the entry whose call fits on three lines; else the first one."""
    for entry in found:
        if all(item.get("kind") == "number" for item in entry.version.signature["inputs"]):
            return entry
    return found[0] if found else None


def tasks(organization: Organization | None, wanted: Wanted) -> list[Choice]:
    """Return the tasks of what matches the rest of the search."""
    rest = Wanted(query=wanted.query, framework=wanted.framework)
    return _choices(find(organization, rest), "task", words.TASKS, wanted.task)


def frameworks(organization: Organization | None, wanted: Wanted) -> list[Choice]:
    """Return the frameworks of what matches the rest of the search."""
    rest = Wanted(query=wanted.query, task=wanted.task)
    found = find(organization, rest)
    return _choices(found, "framework", words.FRAMEWORKS, wanted.framework)


def entries(models: Iterable[MLModel]) -> list[Entry]:
    """Put the current version and price beside each model, with one query for all prices."""
    listed = list(models)
    prices: dict[int, PriceVersion] = {}
    found = PriceVersion.objects.current().filter(model__in=listed)
    for price in found.prefetch_related("components"):
        # Newest first: the first one of a model is the one that applies.
        if price.model_id is not None:
            prices.setdefault(price.model_id, price)
    return [
        Entry(model, model.current_version, prices.get(model.pk))
        for model in listed
        if model.current_version is not None
    ]


def _on_sale(organization: Organization | None) -> MLModelQuerySet:
    visible = MLModel.objects.visible_to(organization).filter(current_version__isnull=False)
    return visible.select_related("owner", "current_version")


def _matching(models: MLModelQuerySet, wanted: Wanted) -> MLModelQuerySet:
    if wanted.query:
        models = search.search(models, wanted.query)
    if wanted.task:
        models = models.filter(task=wanted.task)
    if wanted.framework:
        models = models.filter(framework=wanted.framework)
    return models


def _choices(
    models: MLModelQuerySet, field: str, names: Mapping[str, str | Promise], chosen: str
) -> list[Choice]:
    counted = models.order_by().values_list(field).annotate(count=Count("pk"))
    counts: dict[str, int] = dict(counted)
    return [
        Choice(value, str(name), counts.get(value, 0), value == chosen)
        for value, name in names.items()
        if counts.get(value) or value == chosen
    ]
