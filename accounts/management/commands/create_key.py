"""`manage.py create_key`: an API key for a program, from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import keys
from accounts.models import Organization


class Command(BaseCommand):
    help = "Make an API key and print it, and nothing else; it can never be read again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organization", required=True, metavar="SLUG")
        parser.add_argument("--name", required=True)
        parser.add_argument(
            "--scope",
            action="append",
            choices=keys.SCOPES,
            help="What the key may do; may be repeated. Run, train and read, if not given.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        organization = Organization.objects.filter(slug=options["organization"]).first()
        if organization is None:
            raise CommandError(f"There is no organization {options['organization']!r}.")
        name = options["name"].strip()
        if not 1 <= len(name) <= 80:
            raise CommandError("A name has 1 to 80 characters.")
        _, secret = keys.issue(organization, name, scopes=options["scope"])
        self.stdout.write(secret)
