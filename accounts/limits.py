"""How fast an organization and its keys may call: which limits bind, and who sets them.

An operator sets an organization's, the organization those of its keys; both bind. What is counted
against them is inference.limits' to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.errors import InvalidRequestError
from accounts.models import ApiKey, Organization, User

LARGEST = 1_000_000_000
WINDOW_SECONDS = 60


class Unit(StrEnum):
    """What a limit counts: two per minute, one at a time."""

    REQUESTS = "requests"
    ROWS = "rows"
    CONCURRENCY = "concurrency"

    @property
    def column(self) -> str:
        """The column that holds it."""
        if self is Unit.CONCURRENCY:
            return "concurrent_requests"
        return f"{self.value}_per_minute"


class Limit(NamedTuple):
    """One limit of one key or organization.

    Attributes:
        owner: Whose it is, such as `key:3` or `organization:1`.
        quota: At most so much, 1 or more.
    """

    owner: str
    unit: str
    quota: int

    @property
    def name(self) -> str:
        """What it is called in headers and errors, such as `key-requests`."""
        return f"{self.owner.partition(':')[0]}-{self.unit}"


def of(organization: Organization, key: ApiKey | None = None) -> tuple[Limit, ...]:
    """Return the limits that bind a caller: the key's, then the organization's."""
    found: list[Limit] = []
    if key is not None:
        found += _limits(f"key:{key.pk}", {unit: getattr(key, unit.column) for unit in Unit})
    found += _limits(
        f"organization:{organization.pk}",
        {unit: of_organization(organization, unit) for unit in Unit},
    )
    return tuple(found)


def _limits(owner: str, quotas: dict[Unit, int | None]) -> Iterator[Limit]:
    for unit, quota in quotas.items():
        if quota:
            yield Limit(owner, unit.value, quota)


def of_organization(organization: Organization, unit: Unit) -> int | None:
    """Return an organization's limit: its own, or the site's; None: there is none."""
    own: int | None = getattr(organization, unit.column)
    return own or settings.ORGANIZATION_LIMITS[unit.value] or None


def set_of_key(
    key: ApiKey, quotas: dict[Unit, int | None], *, actor: User | None = None, via: str = ""
) -> bool:
    """Set limits of a key; returns whether anything changed.

    Args:
        quotas: Unit → limit; None: no limit of its own. Units that are missing stay.
        via: The key of the program that sets them.

    Raises:
        InvalidRequestError: A limit is above the organization's, or out of bounds.
    """
    for unit, quota in quotas.items():
        _require_bounds(quota, unit)
        most = of_organization(key.organization, unit)
        if quota is not None and most is not None and quota > most:
            raise InvalidRequestError(
                f"The organization's limit is {most}: a key's cannot be higher.", param=unit.column
            )
    return _set(key, key.organization, quotas, actor=actor, via=via)


def set_of_organization(
    organization: Organization, quotas: dict[Unit, int | None], *, actor: User | None, reason: str
) -> bool:
    """Set limits of an organization; None: the site's. Returns whether anything changed.

    Raises:
        InvalidRequestError: A limit is out of bounds.
    """
    for unit, quota in quotas.items():
        _require_bounds(quota, unit)
    return _set(organization, organization, quotas, actor=actor, reason=reason)


def _require_bounds(quota: int | None, unit: Unit) -> None:
    if quota is not None and not 1 <= quota <= LARGEST:
        raise InvalidRequestError(f"A limit is 1 to {LARGEST}.", param=unit.column)


def _set(
    target: ApiKey | Organization,
    organization: Organization,
    quotas: dict[Unit, int | None],
    *,
    actor: User | None,
    reason: str = "",
    via: str = "",
) -> bool:
    columns = {unit.column: quota for unit, quota in quotas.items()}
    with transaction.atomic():
        row = type(target)._default_manager.select_for_update().get(pk=target.pk)
        changed = {name: each for name, each in columns.items() if getattr(row, name) != each}
        if not changed:
            return False
        type(target)._default_manager.filter(pk=target.pk).update(**changed)
        audit.record(
            actor,
            "rate_limit.set",
            target,
            organization=organization,
            reason=reason,
            details=changed,
            via=via,
        )
    for name, quota in changed.items():
        setattr(target, name, quota)
    return True
