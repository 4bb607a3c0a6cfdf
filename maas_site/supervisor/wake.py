"""Waiting that a signal ends at once."""

from __future__ import annotations

import os
import select
import signal
import time

from maas_site.supervisor.errors import StopRequested


class Wake:
    """Counts requests to stop, and lets the main thread sleep until something happens."""

    def __init__(self) -> None:
        self.stops = 0
        self._last = 0.0
        # Once stopping has begun, further requests are only counted.
        self.is_stopping = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def listen(self) -> None:
        """Take over SIGINT, SIGTERM, SIGHUP; a child that ends only wakes."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(sig, lambda *_: None)

    def pause(self, seconds: float) -> None:
        """Wait, shorter if a signal comes.

        Raises:
            StopRequested: Somebody asked to stop, for the first time.
        """
        ready, _, _ = select.select([self._reader], [], [], seconds)
        if ready:
            numbers = os.read(self._reader, 256)
            stops = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
            now = time.monotonic()
            for number in numbers:
                if number in stops:
                    self._count(now)
        if self.stops and not self.is_stopping:
            raise StopRequested

    def _count(self, now: float) -> None:
        # Make passes on the signal that the terminal has sent us already: that is one wish.
        if not self.stops or now - self._last > 1.0:
            self.stops += 1
        self._last = now
