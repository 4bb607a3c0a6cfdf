"""Which of the predictions that wait a worker may run, as operators want it."""

from __future__ import annotations

from django.db.models import Q

from inference import placing, registry
from inference.registry import Member


def runnable(member: Member, *, texts: bool | None = None) -> Q | None:
    """Return the condition on predictions that a worker may claim now; None: it may claim none.

    Args:
        texts: Only those that write a text, or only the others; None: all.
    """
    found = _allowed(member)
    if found is None or texts is None:
        return found
    return found & Q(output_tokens__isnull=not texts)


def _allowed(member: Member) -> Q | None:
    if member.duty == registry.ACTIVE:
        elsewhere = placing.elsewhere(member.labels)
        return ~Q(model_version__in=elsewhere) if elsewhere else Q()
    if member.duty == registry.CORDONED:
        return Q(model_version__in=member.loaded - placing.elsewhere(member.labels))
    return None
