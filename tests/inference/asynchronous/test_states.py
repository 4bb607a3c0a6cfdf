"""Whatever happens in whatever order: an end is final, and each hold is charged once or not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import budgets
from billing.models import Hold, UsageEvent
from billing.reports import terms_of
from inference import versions
from inference.asynchronous import claims, endings, sweeping
from inference.asynchronous.claims import Claim
from inference.models import Prediction
from tests.inference.asynchronous.conftest import Accept

Status = Prediction.Status
STEPS = ("claim", "begin", "finish", "fail", "cancel", "lose", "late", "sweep")
ALLOWED = {
    Status.QUEUED: {Status.STARTING, Status.FAILED, Status.CANCELED},
    Status.STARTING: {Status.PROCESSING, Status.QUEUED, Status.FAILED, Status.CANCELED},
    Status.PROCESSING: {
        *(Status.QUEUED, Status.SUCCEEDED, Status.FAILED, Status.CANCELED),
    },
}


class Machine:
    """One prediction and all the workers that ever had it; each may act late."""

    def __init__(self, accept: Accept) -> None:
        self.prediction = accept()
        self.claims: list[Claim] = []
        self.status: str = Status.QUEUED

    def do(self, step: str, which: int) -> None:
        claimed = self.claims[which % len(self.claims)] if self.claims else None
        if step == "claim":
            found = claims.claim(f"w{which}")
            self.claims += [found] if found else []
        elif step == "begin" and claimed:
            claims.begin(claimed)
        elif step in {"finish", "fail"} and claimed:
            outcome = "succeeded" if step == "finish" else "model_error"
            output = {"a": which} if step == "finish" else None
            endings.finish(
                [endings.Ran(one, outcome, output, 1, 1, "w") for one in claimed.predictions]
            )
        elif step == "cancel":
            endings.cancel(self.prediction)
        elif step == "lose":
            past = timezone.now() - timedelta(seconds=1)
            Prediction.objects.filter(lease_until__isnull=False).update(lease_until=past)
        elif step == "late":
            Prediction.objects.update(start_by=timezone.now() - timedelta(seconds=1))
        else:
            sweeping.sweep()
        self.check()

    def check(self) -> None:
        row: Any = Prediction.objects.get(pk=self.prediction.pk)
        if row.status != self.status:
            # A step of two changes (lost, then claimed) does not occur: each is one step.
            assert row.status in ALLOWED[Status(self.status)], (self.status, row.status)
            self.status = row.status
        hold = Hold.objects.get(pk=row.hold_id)
        assert (hold.state == Hold.State.AUTHORISED) == (not row.is_ended)
        assert (hold.state == Hold.State.CAPTURED) == (row.status == Status.SUCCEEDED)
        assert UsageEvent.objects.count() == (row.status == Status.SUCCEEDED)
        assert (row.finished_at is not None) == row.is_ended
        assert (row.lease_until is not None) == (row.status in Prediction.RUNNING)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), max_size=14))
@pytest.mark.django_db
def test_any_order_of_events_keeps_row_and_money_together(
    accept: Accept, steps: list[tuple[str, int]]
) -> None:
    # What the last example wrote is rolled back; what the process remembers of it is not.
    budgets._cache.clear()
    versions._cache.clear()
    terms_of.cache_clear()
    with transaction.atomic():
        machine = Machine(accept)
        for step, which in steps:
            machine.do(step, which)
        transaction.set_rollback(True)
