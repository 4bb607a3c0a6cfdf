"""What one click against a finding does, one function per kind of finding.

What is believed is never changed: entries of the ledger, holds, usage, Stripe. A repair runs in the
transaction that closes the finding, under the lock of its organization's wallet.
"""

from __future__ import annotations
