"""Live figures in templates of other apps."""

from __future__ import annotations

from django import template

from inference import performance
from inference.metrics import live
from inference.performance import Shown

register = template.Library()


@register.simple_tag
def live_model(path: str, span: str | None) -> Shown:
    """Return the live figures of a model; of the last hour if `span` is nonsense."""
    return performance.shown(live.read(live.model_series(path), performance.span_of(span)))
