"""`manage.py rebuild_rollups`: makes the hourly sums again from usage."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing import rollups


class Command(BaseCommand):
    """Rebuilds the hourly sums; the settler of an organization waits while its own are made."""

    help = "Make the hourly sums of usage again. Changes nothing where they are right."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", help="Its slug; everybody if left out.")

    def handle(self, *args: Any, **options: Any) -> None:
        organizations = Organization.objects.order_by("pk")
        if options["organization"]:
            organizations = organizations.filter(slug=options["organization"])
            if not organizations:
                raise CommandError(f"There is no organization {options['organization']}.")
        changed = sum(rollups.rebuild(organization) for organization in organizations)
        self.stdout.write(f"{changed} hourly sums were wrong.")
