"""What a check says when two books disagree."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """Two sides that should agree and do not.

    Attributes:
        subject: What it is about, such as `budget:7`: the same trouble has the same subject.
        text: What is wrong, in English: operators' logs and findings.
        organization_id: Whose it is; None for the platform's own.
        expected: What the side that is believed says: nanos or calls; None if it is no amount.
        found: What the other side says.
        source: The object at Stripe that it is about, such as `ch_1`.
    """

    subject: str
    text: str
    organization_id: int | None = None
    expected: int | None = None
    found: int | None = None
    source: str = ""

    def __str__(self) -> str:
        return self.text
