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
def outcome_name(value: str) -> str:
    """Return how a run ended."""
    return _named(words.OUTCOMES, value)


@register.filter
def metric_name(value: str) -> str:
    """Return the name of a metric; an unknown one is shown as it is."""
    return _named(words.METRICS, value)


@register.filter
def milliseconds(microseconds: int | None) -> str:
    """Write a duration given in microseconds: 0.09 ms, 3.1 ms, 120 ms."""
    if microseconds is None:
        return gettext("not measured")
    value = Decimal(microseconds) / 1000
    places = 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:.{places}f} ms"


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
