"""Carrying what a process counted to Redis, once a second, each addition exactly once.

A flush has a number. When its answer is lost it is sent again under the same number, and Redis
does it only if it has not. So nothing is counted twice, however often connections break. A process
that is killed loses what it counted in its last second; one that ends in order loses nothing.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from string import Template

import msgpack
import redis

from inference.connections import EVENTS_DB, redis_url
from inference.metrics import counting, live
from inference.metrics.counting import Trace
from inference.metrics.tally import Tally

logger = logging.getLogger(__name__)
FLUSH_SECONDS = 1.0
# A process that has said nothing for so long is gone, and its gauges with it.
GONE_SECONDS = 10
# Models, and workers, that have series of their own; others are counted as "other". A place is
# free again when its owner has not been seen for an hour.
MOST_NAMES = 100
PLACE_SECONDS = 3600
NAMED_TTL = 86_400
OTHER = "other"
SITE_KEY = "metrics:site"
PROCESSES_KEY = "metrics:processes"

# (metric, labels' values, value)
Reading = tuple[str, tuple[str, ...], float]
Read = Callable[[], Iterable[Reading]]
Keep = Callable[[Sequence[Trace]], None]

# KEYS: where the number of the process's last flush is; its gauges. ARGV: the number, the time,
# the process, its gauges, [[scope, name, {field: n}]…], [[key, seconds to live, {field: n}]…],
# [[sorted set, member]…].
_FLUSH = Template("""
local now = tonumber(ARGV[2])
redis.call('SET', KEYS[2], ARGV[4], 'EX', $gone)
redis.call('ZADD', '$processes', now, ARGV[3])
redis.call('ZREMRANGEBYSCORE', '$processes', '-inf', now - $gone)
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', 86400)

local function place(scope, name)
  local names = 'metrics:' .. scope .. 's'
  if not redis.call('ZSCORE', names, name) and redis.call('ZCARD', names) >= $most then
    redis.call('ZREMRANGEBYSCORE', names, '-inf', now - $place)
    if redis.call('ZCARD', names) >= $most then name = '$other' end
  end
  redis.call('ZADD', names, now, name)
  return 'metrics:' .. scope .. ':' .. name
end

for _, group in ipairs(cmsgpack.unpack(ARGV[5])) do
  local key = '$site'
  if group[1] ~= 'site' then key = place(group[1], group[2]) end
  for field, n in pairs(group[3]) do redis.call('HINCRBY', key, field, n) end
  if group[1] ~= 'site' then redis.call('EXPIRE', key, $ttl) end
end
for _, group in ipairs(cmsgpack.unpack(ARGV[6])) do
  for field, n in pairs(group[3]) do redis.call('HINCRBY', group[1], field, n) end
  redis.call('EXPIRE', group[1], group[2])
end
for _, member in ipairs(cmsgpack.unpack(ARGV[7])) do
  redis.call('ZADD', member[1], now, member[2])
  redis.call('ZREMRANGEBYSCORE', member[1], '-inf', now - 86400)
  redis.call('EXPIRE', member[1], 86400)
end
return 1
""").substitute(
    gone=GONE_SECONDS,
    processes=PROCESSES_KEY,
    most=MOST_NAMES,
    place=PLACE_SECONDS,
    other=OTHER,
    site=SITE_KEY,
    ttl=NAMED_TTL,
)


def gauges_key(process: str) -> str:
    """Where the gauges of a process are."""
    return f"metrics:gauges:{process}"


class Flusher:
    """Adds up what this process counts, and carries it away.

    Args:
        kind: What the process is: `gateway`, `predict` or `light`.
        gauges: Functions that read numbers as they are now; called in the flusher's thread.
        keep: Stores traces; without it they are forgotten.
    """

    def __init__(self, kind: str, gauges: Iterable[Read] = (), keep: Keep | None = None) -> None:
        self.process = f"{kind}-{os.getpid()}-{secrets.token_hex(4)}"
        self._kind = kind
        self._gauges = list(gauges)
        self._keep = keep
        self._tally = Tally()
        self._number = 0
        # What was sent, and perhaps done, but not answered.
        self._unanswered: list[bytes] | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        # Its own, with short waits: a Redis that hangs must not stop the counting for long.
        self._client = redis.Redis.from_url(
            redis_url(EVENTS_DB), socket_timeout=2, socket_connect_timeout=2
        )
        self._script = self._client.register_script(_FLUSH)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Carry the rest away, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()

    def flush(self) -> bool:
        """Carry away what was counted; False if Redis could not be asked: then later."""
        with self._lock:
            self._tally.take()
            self._keep_traces()
            try:
                if self._unanswered is not None:
                    self._send(self._unanswered)
                self._number += 1
                self._unanswered = _packed(self._tally)
                self._tally = Tally()
                self._send(self._unanswered)
            except redis.RedisError as error:
                logger.warning("metrics: %s", error)
                return False
            return True

    def _keep_traces(self) -> None:
        traces, self._tally.traces = self._tally.traces, []
        if traces and self._keep is not None:
            self._keep(traces)

    def _send(self, packed: list[bytes]) -> None:
        keys = [f"metrics:flushed:{self.process}", gauges_key(self.process)]
        now = int(time.time())
        self._script(keys, [self._number, now, self.process, self._read_gauges(), *packed])
        self._unanswered = None

    def _read_gauges(self) -> bytes:
        readings: list[Reading] = [("mercato_processes", (self._kind,), 1)]
        for read in self._gauges:
            readings += read()
        packed: bytes = msgpack.packb(readings)
        return packed


def _packed(tally: Tally) -> list[bytes]:
    tally.finish()
    sums = [[scope, name, fields] for (scope, name), fields in tally.sums.items()]
    groups, members = live.groups(tally)
    return [msgpack.packb(part) for part in (sums, groups, members)]


_flushers: dict[int, Flusher] = {}


def start(kind: str, gauges: Iterable[Read] = (), keep: Keep | None = None) -> None:
    """Begin to carry away what this process counts; a second time does nothing."""
    pid = os.getpid()
    if pid not in _flushers:
        counting.forget()
        _flushers[pid] = Flusher(kind, gauges, keep)
        _flushers[pid].start()


def stop() -> None:
    """Carry the rest away before this process ends."""
    flusher = _flushers.pop(os.getpid(), None)
    if flusher is not None:
        flusher.stop()
