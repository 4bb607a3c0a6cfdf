"""The digests that make charges and transactions tamper-evident. Pure.

A settlement's digest is a chain over its charges that begins with the digest of the settlement
before it; the ledger transaction that books it carries the digest and is chained in turn. So to
change one old charge unseen, every settlement and every transaction after it would have to change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from billing.finished import Finished


def of_charge(hold: Finished) -> str:
    """Return the SHA-256 of what a charge says: who, what, how much, by which price and share."""
    said = (
        hold.hold_id,
        hold.currency,
        hold.captured_nanos,
        hold.publisher_nanos,
        hold.platform_nanos,
        hold.price_version_id,
        hold.share_version_id,
        hold.model_version_id,
        hold.outcome,
        hold.rows,
        hold.compute_ms,
        hold.input_tokens,
        hold.output_tokens,
        hold.bytes,
        hold.occurred_at.isoformat(),
    )
    return _sha256("|".join(map(str, said)))


def of_settlement(previous: str, charges: Iterable[Finished]) -> str:
    """Return the end of the chain that begins at `previous` and goes through all charges."""
    head = previous
    for hold in charges:
        if hold.captured_nanos is not None:
            head = _sha256(head + of_charge(hold))
    return head


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
