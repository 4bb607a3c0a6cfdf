"""The outcome policy on pages."""

from __future__ import annotations

from collections.abc import Mapping

from django import template

from billing.outcomes import Line, lines

register = template.Library()


@register.filter
def outcome_lines(policy: Mapping[str, int]) -> list[Line]:
    """Return every way a run can end with what it costs, in the reader's language."""
    return lines(policy)
