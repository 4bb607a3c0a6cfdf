"""Time-ordered ids."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import datetime

# Not after any id.
FIRST = uuid.UUID(int=0)


def uuid7() -> uuid.UUID:
    """Make a UUID whose order is the order of time (milliseconds, then random bits).

    Source:
        RFC 9562, section 5.7.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def floor(instant: datetime) -> uuid.UUID:
    """Return a UUID that is not after any id made from `instant` on."""
    milliseconds = int(instant.timestamp() * 1000)
    return uuid.UUID(int=milliseconds << 80)
