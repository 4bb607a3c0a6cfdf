"""Says which cap stood in the way, what is left of it, and when it opens again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from accounts.errors import MercatoError
from billing import caps
from billing.budgets import Member
from billing.errors import CapReachedError, InsufficientCreditError, OrganizationFrozenError
from billing.models import Budget, Unit
from billing.money import decimal_text


def refusal(member: Member, needed: int, found: Mapping[int, Budget]) -> MercatoError:
    """Return why `needed` nanos or calls could not be set aside.

    Args:
        found: All budgets of the run by id, with their organization; their state goes into the
            headers.
    """
    budget = found[member.budget_id]
    if budget.organization.is_frozen:
        return OrganizationFrozenError("An operator has frozen this organization.")
    left = max(budget.available, 0)
    if budget.unit == Unit.CALLS:
        amounts = f"This is one call too many: {budget.limit} are allowed and {left} are left"
    else:
        amounts = (
            f"This run may cost {decimal_text(needed)} {budget.currency}, and "
            f"{decimal_text(left)} is available"
        )
    error: MercatoError
    if budget.lock_rank == Budget.Rank.WALLET:
        error = InsufficientCreditError(f"{amounts}.")
    else:
        error = CapReachedError(
            f"{amounts} of the cap {member.name}, {_opens(member)}.",
            cap=member.name,
            budget_id=budget.pk,
            retry_after=_seconds_until(member.closes_at) if member.closes_at else None,
        )
    error.headers = caps.of_budgets(found.values())
    return error


def _opens(member: Member) -> str:
    if not member.closes_at:
        return "which is for the lifetime"
    opens = datetime.fromtimestamp(member.closes_at, UTC)
    return f"which opens again at {opens:%Y-%m-%dT%H:%M:%SZ}"


def _seconds_until(instant: int) -> int:
    return max(instant - int(datetime.now(UTC).timestamp()), 1)
