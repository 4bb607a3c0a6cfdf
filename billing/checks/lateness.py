"""What has not happened in time: no book is wrong yet, but money waits.

Asked by the comparison alone: a proof of the books does not depend on what time it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.db.models import Count, Sum
from django.utils import timezone

from billing.checks.trouble import Trouble
from billing.models import Hold
from billing.models.holds import HoldQuerySet

# The sweep and the settler come every few seconds.
LATE = timedelta(hours=1)


def holds_have_ended() -> list[Trouble]:
    """No run sets money aside for long after its hold should have expired."""
    late = Hold.objects.filter(state=Hold.State.AUTHORISED, expires_at__lt=timezone.now() - LATE)
    return _by_organization(late, "have not ended in time")


def ends_are_settled() -> list[Trouble]:
    """No run that has ended waits for long to be settled."""
    late = Hold.objects.unsettled().filter(finished_at__lt=timezone.now() - LATE)
    return _by_organization(late, "have ended and are not settled")


def _by_organization(late: HoldQuerySet, what: str) -> list[Trouble]:
    rows = late.order_by().values_list("organization", "organization__slug")
    counted = rows.annotate(runs=Count("pk"), nanos=Sum("reserved_nanos")).order_by("organization")
    return [
        Trouble(f"holds:{owner}", f"{runs} runs of {slug} {what}", owner, 0, nanos)
        for owner, slug, runs, nanos in counted
    ]


CHECKS: tuple[Callable[[], list[Trouble]], ...] = (holds_have_ended, ends_are_settled)
