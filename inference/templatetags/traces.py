"""Where the time of calls went, in templates of other apps."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django import template
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from billing.calls import Call
from inference.metrics import traces
from inference.metrics.traces import Waterfall

register = template.Library()
STAGES = {
    "gateway": (_("Gateway"), _("read and checked")),
    "lane": (_("Lane"), _("waited for the batch before it")),
    "admit": (_("Admission"), _("money set aside")),
    "queue": (_("Queue"), _("to a worker, and back")),
    "run": (_("Run"), _("in the model, with its batch")),
    "capture": (_("Capture"), _("charged, with its batch")),
    "reply": (_("Reply"), _("written and sent")),
}


@register.simple_tag
def trace_of(call: Call) -> Waterfall | None:
    """Return where the time of one call went; None if that is not kept."""
    return traces.of([call.hold_id]).get(call.hold_id)


@register.simple_tag
def traces_of(calls: Sequence[Call]) -> dict[UUID, Waterfall]:
    """Return where the time of a page of calls went; one query for all."""
    return traces.of(call.hold_id for call in calls)


@register.filter
def of_call(found: dict[UUID, Waterfall], call: Call) -> Waterfall | None:
    """Return the part of `traces_of` that belongs to one call."""
    return found.get(call.hold_id)


@register.filter
def stage(name: str) -> str:
    """Write the name of a stage in words."""
    return gettext(STAGES[name][0])


@register.filter
def stage_text(name: str) -> str:
    """Write what happens in a stage."""
    return gettext(STAGES[name][1])
