"""A process of its own that counts requests: told on stdin what to do, answers on stdout.

`OWNER/UNIT/QUOTA N MS` tries N requests at once, at the time MS (left out: Redis'), and answers how
many were let through. They stay: slots that were taken are kept.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class Gateway:
    """The process, seen from the test."""

    def __init__(self, redis_url: str, lease_seconds: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, redis_url, str(lease_seconds)],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "maas_site.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, command: str) -> None:
        """Say what to do; does not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def answer(self) -> int:
        """Wait for the answer."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def ask(self, command: str) -> int:
        """Say what to do, and wait for the answer."""
        self.tell(command)
        return self.answer()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.communicate()


def _main() -> None:
    import django

    django.setup()

    import redis

    from accounts.limits import Limit
    from inference.errors import RateLimitedError
    from inference.limits.gate import Gate
    from inference.limits.outages import Outages

    client = redis.Redis.from_url(sys.argv[1])
    clock = [0]

    async def one(gate: Gate, limits: tuple[Limit, ...]) -> bool:
        try:
            await gate.enter(limits, 1)
        except RateLimitedError:
            return False
        return True

    async def many(gate: Gate, limit: str, number: int) -> int:
        owner, unit, quota = limit.rsplit("/", 2)
        limits = (Limit(owner, unit, int(quota)),)
        return sum(await asyncio.gather(*(one(gate, limits) for _ in range(number))))

    lease = float(sys.argv[2])
    real = Gate(lambda: client, Outages(), lease_seconds=lease)
    timed = Gate(lambda: client, Outages(), lambda: clock[0], lease_seconds=lease)
    # A refusal is remembered by the real clock: with another one each is asked for again.
    for line in sys.stdin:
        limit, number, *at = line.split()
        clock[0] = int(at[0]) if at else 0
        timed._closed.clear()
        let_through = asyncio.run(many(timed if clock[0] else real, limit, int(number)))
        sys.stdout.write(f"{let_through}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
