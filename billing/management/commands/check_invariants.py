"""`manage.py check_invariants`: proves the books, or says what is wrong and exits with 1."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.invariants import CHECKS, violations
from billing.snapshots import one_snapshot


class Command(BaseCommand):
    """Runs every check of billing.invariants."""

    help = "Prove that budgets, holds, usage and ledger agree."

    def handle(self, *args: Any, **options: Any) -> None:
        with one_snapshot():
            found = violations()
        if found:
            raise CommandError("\n".join(found))
        self.stdout.write(f"{len(CHECKS)} checks, no violation.")
