"""Limits with how much of each is used now, for pages and for GET /v1/limits."""

from __future__ import annotations

from dataclasses import dataclass

from accounts import limits as rules
from accounts.limits import Limit, Unit
from accounts.models import ApiKey, Organization
from inference import limits
from inference.limits.script import Use, key_of


@dataclass(frozen=True, slots=True)
class LiveLimit:
    """A limit and its use; `use` is None while nobody knows."""

    limit: Limit
    key: ApiKey | None
    use: Use | None

    @property
    def unit(self) -> Unit:
        """What it counts."""
        return Unit(self.limit.unit)

    @property
    def used(self) -> int | None:
        """How much is used."""
        return None if self.use is None else self.use.used

    @property
    def left(self) -> int | None:
        """How much is left."""
        return None if self.use is None else max(self.limit.quota - self.use.used, 0)

    @property
    def percent(self) -> int:
        """How much is used, of a hundred; at most a hundred."""
        return min((self.used or 0) * 100 // self.limit.quota, 100)

    @property
    def opens_seconds(self) -> int | None:
        """In how many seconds more is left; None: time does not help, or nothing is used."""
        if self.use is None or not self.use.opens_ms:
            return None
        return -(-self.use.opens_ms // 1000)


def of(organization: Organization, key: ApiKey | None = None) -> list[LiveLimit]:
    """Return the limits that bind a key, its own first; without a key the organization's."""
    found = rules.of(organization, key)
    uses = (limits.uses(found) or {}) if found else {}
    return [
        LiveLimit(each, key if each.owner.startswith("key:") else None, uses.get(key_of(each)))
        for each in found
    ]
