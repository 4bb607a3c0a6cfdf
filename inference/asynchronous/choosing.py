"""Which of the predictions that wait a worker may run, as operators want it."""

from __future__ import annotations

from django.db.models import Q

from inference import placing, registry
from inference.registry import Member


def runnable(member: Member) -> Q | None:
    """Return the condition on predictions that a worker may claim now; None: it may claim none."""
    if member.duty == registry.ACTIVE:
        elsewhere = placing.elsewhere(member.labels)
        return ~Q(model_version__in=elsewhere) if elsewhere else Q()
    if member.duty == registry.CORDONED:
        return Q(model_version__in=member.loaded - placing.elsewhere(member.labels))
    return None
