"""A finding that somebody wants to be put right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accounts.errors import ConflictError
from accounts.models import Organization, User
from billing import ledger
from billing.checks.trouble import Trouble
from billing.models import Finding, LedgerAccount, LedgerTransaction

# Of what is booked, once per finding.
KIND = "correction"


@dataclass(frozen=True, slots=True)
class Case:
    """What a repair gets.

    Attributes:
        finding: Locked, as it was when it was found.
        trouble: What the check says now; None if only Stripe could say it.
        actor: The operator.
        reason: For the ledger and the audit log.
    """

    finding: Finding
    trouble: Trouble | None
    actor: User
    reason: str

    @property
    def key(self) -> str:
        """What the finding is about, without its kind: `7` of `budget:7`."""
        return self.finding.subject.partition(":")[2]

    @property
    def organization(self) -> Organization:
        """Whose finding it is.

        Raises:
            ConflictError: It is nobody's.
        """
        if self.finding.organization is None:
            raise ConflictError("The finding is nobody's.")
        return self.finding.organization

    @property
    def missing(self) -> int:
        """By how much less there is than should be, in nanos or calls."""
        said = self.trouble
        if said is None:
            return (self.finding.expected_nanos or 0) - (self.finding.found_nanos or 0)
        return (said.expected or 0) - (said.found or 0)

    def book(self, entries: Mapping[LedgerAccount, int]) -> LedgerTransaction:
        """Book a correction, once per finding."""
        booked, _ = ledger.post(
            KIND,
            f"finding:{self.finding.pk}",
            entries,
            organization=self.finding.organization,
            actor=self.actor,
            reason=self.reason,
        )
        return booked


# Returns what it booked, if anything. Raises ConflictError if nothing right can be done.
Repair = Callable[[Case], LedgerTransaction | None]
