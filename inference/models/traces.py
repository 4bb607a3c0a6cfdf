"""Where the time of calls went."""

from __future__ import annotations

from django.db import models


class CallTrace(models.Model):
    """The stages of one call, in microseconds; kept for MERCATO_TRACE_HOURS.

    Written after its end by the process that has ended it: the gateway, which alone knows all of
    them; a worker, for what runs later. Stages that it did not come to are 0. Nothing that costs
    money is in it: a process that dies loses the traces of its last second.
    """

    # Of the hold, without a foreign key: writing it asks nothing of the books.
    hold_id = models.UUIDField(primary_key=True)
    gateway_us = models.PositiveIntegerField()
    lane_us = models.PositiveIntegerField()
    admit_us = models.PositiveIntegerField()
    queue_us = models.PositiveIntegerField()
    run_us = models.PositiveIntegerField()
    capture_us = models.PositiveIntegerField()
    reply_us = models.PositiveIntegerField()
    # How many requests were in its batch.
    requests = models.PositiveIntegerField()

    def __str__(self) -> str:
        return str(self.hold_id)

    @property
    def stages(self) -> tuple[int, ...]:
        """The times in the order in which they passed, as `families.STAGES` names them."""
        return (
            *(self.gateway_us, self.lane_us, self.admit_us, self.queue_us),
            *(self.run_us, self.capture_us, self.reply_us),
        )
