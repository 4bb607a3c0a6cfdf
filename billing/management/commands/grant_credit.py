"""`manage.py grant_credit`: what the console's button does, from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from billing import budgets, credit
from billing.money import decimal_text, parse


class Command(BaseCommand):
    help = "Give an organization credit, once per reference, and print what it can spend."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organization", required=True, metavar="SLUG")
        parser.add_argument("--amount", required=True, help="In US dollars, such as 5.00.")
        parser.add_argument("--reason", required=True, help="Written to the audit log.")
        parser.add_argument(
            "--ref", required=True, help="Names what this is for: the same one books only once."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        organization = Organization.objects.filter(slug=options["organization"]).first()
        if organization is None:
            raise CommandError(f"There is no organization {options['organization']!r}.")
        if not 1 <= len(options["ref"]) <= 80:
            raise CommandError("A reference has 1 to 80 characters.")
        try:
            credit.grant(
                organization,
                parse(options["amount"]),
                external_ref=f"command:{organization.pk}:{options['ref']}",
                reason=options["reason"],
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(decimal_text(budgets.wallet(organization).available))
