"""How the catalogue writes models, times and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from django import template
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext

from catalog import cards, words
from catalog.models import MLModel

register = template.Library()


@register.filter
def title(model: MLModel) -> str:
    """Return the model's title in the reader's language."""
    return _localized(model.title_en, model.title_zh)


@register.filter
def summary(model: MLModel) -> str:
    """Return the model's one-line description in the reader's language."""
    return _localized(model.summary_en, model.summary_zh)


@register.filter
def card(model: MLModel) -> SafeString:
    """Return the model card as HTML in the reader's language."""
    return cards.render(_localized(model.card_en, model.card_zh))


@register.filter
def task_name(value: str) -> str:
    """Return the name of a task."""
    return _named(words.TASKS, value)


@register.filter
def framework_name(value: str) -> str:
    """Return the name of a framework."""
    return _named(words.FRAMEWORKS, value)


@register.filter
def runtime_name(value: str) -> str:
    """Return the name of a runtime."""
    return _named(words.RUNTIMES, value)


@register.filter
def status_name(value: str) -> str:
    """Return the name of a version's status."""
    return _named(words.STATUSES, value)


@register.filter
def data_name(value: str) -> str:
    """Return the name of a data set; an unknown one is shown as it is."""
    return _named(words.DATA, value)


@register.filter
def artifact_name(value: str) -> str:
    """Return the name of an artifact's format."""
    return _named(words.ARTIFACTS, value)


@register.filter
def metric_rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the metrics that are single numbers, with their names, as a table shows them."""
    return [
        (_named(words.METRICS, name), percent(str(value)) if name in words.SHARES else str(value))
        for name, value in metrics.items()
        if isinstance(value, str | int)
    ]


@register.filter
def hyperparameter_rows(chosen: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the hyper-parameters with their names."""
    given = chosen or {}
    return [(_named(words.HYPERPARAMETERS, name), str(value)) for name, value in given.items()]


@register.filter
def milliseconds(microseconds: int | None) -> str:
    """Write a duration given in microseconds: 4 µs, 0.12 ms, 3.1 ms, 120 ms."""
    if microseconds is None:
        return gettext("not measured")
    if microseconds < 100:
        return f"{microseconds} µs"
    value = Decimal(microseconds) / 1000
    places = 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:.{places}f} ms"


@register.filter
def thousands(number: int) -> str:
    """Write a whole number with its thousands apart: 121,930."""
    return f"{number:,}"


@register.filter
def percent(share: str | None) -> str:
    """Write a share such as "0.9812" as 98.12 %."""
    try:
        value = Decimal(str(share)) * 100
    except InvalidOperation:
        return ""
    return f"{value:.2f}".rstrip("0").rstrip(".") + " %"


@register.filter
def shape(dimensions: list[int]) -> str:
    """Write a tensor's shape without its batch axis: 28 × 28."""
    return " × ".join(str(size) for size in dimensions) or gettext("one number")


@register.filter
def short(digest: str) -> str:
    """Shorten a long id to its ends."""
    return digest if len(digest) <= 16 else f"{digest[:8]}…{digest[-6:]}"


def _localized(english: str, chinese: str) -> str:
    is_chinese = (get_language() or "").startswith("zh")
    return chinese if is_chinese and chinese else english


def _named(names: Mapping[str, str | Promise | Any], value: str) -> str:
    return str(names.get(value, value))
