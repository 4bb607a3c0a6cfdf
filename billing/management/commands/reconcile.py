"""`manage.py reconcile`: compares everything with everything; exits with 1 if findings are open."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import reconciliation
from billing.models import Finding


class Command(BaseCommand):
    """Runs the nightly comparison now."""

    help = "Compare usage, budgets, wallets, ledger and Stripe, and keep what does not agree."

    def handle(self, *args: Any, **options: Any) -> None:
        made = reconciliation.run()
        if made.error:
            self.stderr.write(made.error)
        found = Finding.objects.filter(state=Finding.State.OPEN).order_by("check_name", "subject")
        for finding in found:
            self.stdout.write(f"{finding.check_name}: {finding.text}")
        if found or made.error:
            raise CommandError(f"{len(found)} open findings.")
        self.stdout.write(f"{len(made.checked)} checks, nothing found.")
