"""What must hold, one function per question: each returns what is wrong and repairs nothing.

`billing.invariants` runs them as a proof, `billing.reconciliation` keeps what they say as findings.
"""

from __future__ import annotations
