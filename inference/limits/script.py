"""The one script that counts: all limits of all requests of a batch in one round trip.

A minute is a window that slides in steps of a quarter of a second. What was counted leaves between
60 and 60.25 seconds later, so in no minute more than the limit is let through, and under steady
load at most 1/240 less. The time is the Redis server's: gateways' clocks may differ.

Of several limits that stand in the way the one that lasts longest is named: whoever comes back
when another one opens would be refused again.

Slots of concurrency are counted per process: each reports how many it holds, not how many more or
fewer, so a report that is lost or comes twice does no harm, and a Redis that was emptied knows
again after the next one. What a process holds counts as long as its lease does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import redis

from accounts.limits import Limit, Unit

# Seconds after which the slots of a process that has died are free again.
LEASE_SECONDS = 10
_KINDS: dict[str, int] = {Unit.REQUESTS: 0, Unit.ROWS: 1, Unit.CONCURRENCY: 2}

# KEYS: one per limit. ARGV: the time in ms (empty: Redis'), the process, its lease in ms, and
# {{kind, quota, held} per limit, {rows, place of a limit, …} per request}.
SOURCE = """
local BUCKET, SPAN = 250, 241
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local me, lease = ARGV[2], ARGV[3]
local limits, requests = unpack(cmsgpack.unpack(ARGV[4]))
local lives = {}

local function is_alive(process)
  if lives[process] == nil then
    lives[process] = redis.call('EXISTS', 'limits:process:' .. process) == 1
  end
  return lives[process]
end

local function slots(key, held)
  local used, found = held, redis.call('HGETALL', key)
  for place = 1, #found, 2 do
    if found[place] ~= me then
      if is_alive(found[place]) then
        used = used + tonumber(found[place + 1])
      else
        redis.call('HDEL', key, found[place])
      end
    end
  end
  return {used = used, added = 0}
end

local function window(key)
  local found = redis.call('HMGET', key, 'used', 'first', 'last')
  local used, first, last = tonumber(found[1]) or 0, tonumber(found[2]), tonumber(found[3])
  local bucket = math.floor(now / BUCKET)
  if last and last > bucket then bucket = last end
  if used == 0 or last <= bucket - SPAN then
    if found[1] then redis.call('DEL', key) end
    return {used = 0, added = 0, first = bucket, bucket = bucket}
  end
  local from = first
  while true do
    local count = redis.call('HGET', key, first)
    if count then
      if first > bucket - SPAN then break end
      used = used - tonumber(count)
      redis.call('HDEL', key, first)
    end
    first = first + 1
  end
  if first ~= from then redis.call('HSET', key, 'used', used, 'first', first) end
  return {used = used, added = 0, first = first, bucket = bucket}
end

local function wait(key, state, need)
  if state.need ~= need then
    local freed, bucket = 0, state.first
    while bucket < state.bucket do
      freed = freed + (tonumber(redis.call('HGET', key, bucket)) or 0)
      if freed >= need then break end
      bucket = bucket + 1
    end
    state.need, state.wait = need, (bucket + SPAN) * BUCKET - now
  end
  return state.wait
end

local states = {}
for place, limit in ipairs(limits) do
  states[place] = limit[1] == 2 and slots(KEYS[place], limit[3]) or window(KEYS[place])
end
local verdicts = {}
for number, request in ipairs(requests) do
  local refusal = 0
  for index = 2, #request do
    local place = request[index]
    local limit, state = limits[place], states[place]
    local cost = limit[1] == 1 and request[1] or 1
    local over = state.used + cost - limit[2]
    if over > 0 then
      local opens = limit[1] == 2 and 0 or wait(KEYS[place], state, over)
      if refusal == 0 or opens > refusal[2] then refusal = {place, opens} end
    end
  end
  if refusal == 0 then
    for index = 2, #request do
      local state = states[request[index]]
      local cost = limits[request[index]][1] == 1 and request[1] or 1
      state.used, state.added = state.used + cost, state.added + cost
    end
  end
  verdicts[number] = refusal
end
local report = {}
for place, limit in ipairs(limits) do
  local state, key, opens = states[place], KEYS[place], 0
  if limit[1] == 2 then
    local held = limit[3] + state.added
    if held > 0 then
      redis.call('HSET', key, me, held)
      redis.call('PEXPIRE', key, lease * 2)
      redis.call('SET', 'limits:process:' .. me, 1, 'PX', lease)
    else
      redis.call('HDEL', key, me)
    end
  else
    if state.added > 0 then
      redis.call('HINCRBY', key, state.bucket, state.added)
      redis.call('HSET', key, 'used', state.used, 'first', state.first, 'last', state.bucket)
      redis.call('PEXPIRE', key, (SPAN + 1) * BUCKET)
    end
    if state.used > 0 then opens = (state.first + SPAN) * BUCKET - now end
  end
  report[place] = {state.used, opens}
end
return cmsgpack.pack({verdicts, report})
"""
_SHA = hashlib.sha1(SOURCE.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a limit is used, after the batch.

    Attributes:
        opens_ms: Milliseconds until some of it is given back; 0 if nothing is used, or if it is
            not a matter of time.
    """

    used: int
    opens_ms: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The limit that stands in the way, and after how many milliseconds that may end."""

    limit: Limit
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds slots.

    Attributes:
        held: How many of each limit, by the limit's key.
    """

    process: str
    held: Mapping[str, int]
    lease_seconds: float = LEASE_SECONDS


NOBODY = Holder("", {})


class Batch:
    """Requests that are counted together."""

    def __init__(self) -> None:
        # By key: a limit that was just changed may come with two quotas; the last one counts.
        self._places: dict[str, int] = {}
        self._limits: list[Limit] = []
        self._requests: list[list[int]] = []

    def touch(self, limit: Limit) -> int:
        """Ask for the state of a limit, and report what is held of it; returns its place."""
        key = key_of(limit)
        place = self._places.get(key)
        if place is not None:
            self._limits[place - 1] = limit
            return place
        self._limits.append(limit)
        self._places[key] = len(self._limits)
        return len(self._limits)

    def add(self, limits: Sequence[Limit], rows: int) -> None:
        """Add a request that is counted against limits; all of them, or none."""
        self._requests.append([rows, *map(self.touch, limits)])

    def keys(self) -> list[str]:
        """Return the script's KEYS."""
        return list(self._places)

    def arguments(self, holder: Holder, now_ms: int | None) -> list[Any]:
        """Return the script's ARGV.

        Args:
            now_ms: The time; None: Redis'.
        """
        limits = [
            (_KINDS[limit.unit], limit.quota, holder.held.get(key, 0))
            for key, limit in zip(self._places, self._limits, strict=True)
        ]
        return [
            "" if now_ms is None else str(now_ms),
            holder.process,
            str(int(holder.lease_seconds * 1000)),
            msgpack.packb((limits, self._requests)),
        ]

    def read(self, reply: bytes) -> tuple[list[Refusal | None], dict[str, Use]]:
        """Return what became of each request, in order, and the state of each limit by key."""
        verdicts, report = msgpack.unpackb(reply)
        refusals = [
            Refusal(self._limits[int(each[0]) - 1], int(each[1])) if each else None
            for each in verdicts
        ]
        uses = {
            key: Use(int(used), int(opens))
            for key, (used, opens) in zip(self._places, report, strict=True)
        }
        return refusals, uses


def key_of(limit: Limit) -> str:
    """Return where a limit is counted."""
    return f"limits:{limit.owner}:{limit.unit}"


def run(
    client: redis.Redis, batch: Batch, holder: Holder, now_ms: int | None = None
) -> tuple[list[Refusal | None], dict[str, Use]]:
    """Count a batch.

    Raises:
        redis.RedisError: It was not counted, or nobody knows whether it was.
    """
    keys = batch.keys()
    arguments = (*keys, *batch.arguments(holder, now_ms))
    try:
        reply = client.evalsha(_SHA, len(keys), *arguments)
    except redis.exceptions.NoScriptError:
        # A Redis that was started again.
        reply = client.eval(SOURCE, len(keys), *arguments)
    return batch.read(reply)
