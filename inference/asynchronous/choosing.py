"""Which of the predictions that wait a worker may run, as operators want it."""

from __future__ import annotations

from django.db.models import Q

from inference import registry
from inference.models import Placement
from inference.registry import Member


def runnable(member: Member) -> Q | None:
    """Return the condition on predictions that a worker may claim now; None: it may claim none."""
    if member.duty == registry.ACTIVE:
        needed = Placement.objects.exclude(labels={}).values_list("version_id", "labels")
        elsewhere = [version_id for version_id, labels in needed if not member.has(labels)]
        return ~Q(model_version__in=elsewhere) if elsewhere else Q()
    if member.duty == registry.CORDONED:
        return Q(model_version__in=member.loaded)
    return None
