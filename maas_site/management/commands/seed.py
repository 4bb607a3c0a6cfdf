"""`manage.py seed`: what a new site starts with."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from accounts.models import Organization
from maas_site import first_run
from training import seed as models

# Without a sign of life for this long the site starts with the models it has.
_STALLED_SECONDS = 600.0


class Command(BaseCommand):
    help = "Make the operator, the first organizations, prices and models; safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Answer in JSON.")
        parser.add_argument(
            "--watch", action="store_true", help="Only report the training of the first models."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["watch"]:
            self._watch()
            return
        answer = run()
        if options["json"]:
            self.stdout.write(json.dumps(answer))
            return
        if answer["first_run"]:
            self.stdout.write(f"Credentials: {first_run.FILE}")
        self.stdout.write(f"Models to train: {answer['models_missing']}")

    def _watch(self) -> None:
        """Write the progress, a line of JSON at a time, until all have ended."""
        last, moved_at = "", time.monotonic()
        while True:
            at = models.progress()
            line = json.dumps(at)
            if line != last:
                self.stdout.write(line)
                self.stdout.flush()
                last, moved_at = line, time.monotonic()
            if at["done"] + len(at["failed"]) >= at["total"]:
                return
            if time.monotonic() - moved_at > _STALLED_SECONDS:
                self.stderr.write("ERROR the training of the first models does not go on")
                raise SystemExit(1)
            time.sleep(0.5)


def run() -> dict[str, Any]:
    """Seed the site; returns what the supervisor tells the operator."""
    made = first_run.seed()
    publisher = Organization.objects.get(slug=first_run.PUBLISHER)
    return {
        "first_run": asdict(made) if made else None,
        "first_run_file": str(first_run.FILE) if first_run.FILE.exists() else None,
        "models_missing": models.enqueue(publisher),
    }
