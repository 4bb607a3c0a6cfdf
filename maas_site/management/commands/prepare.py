"""`manage.py prepare`: all that must be true before the site's processes start."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from maas_site.management.commands import seed


class Command(BaseCommand):
    help = "Migrate, collect static files and seed; answers in JSON. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        migrations = _migrate()
        _collect_static()
        version = ".".join(map(str, connection.get_database_version()))
        name = f"{connection.display_name} {version}"
        answer = seed.run() | {"database": f"{name}, {migrations} migrations applied"}
        self.stdout.write(json.dumps(answer))


def _migrate() -> int:
    """Bring the database up to date; returns how many steps that took."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        if executor.loader.applied_migrations:
            _back_up()
        call_command("migrate", interactive=False, verbosity=0)
    return len(plan)


def _back_up() -> None:
    """Copy a SQLite database before its tables change; a server has its own backups."""
    if connection.vendor != "sqlite":
        return
    folder = settings.DATA / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / "before-migration.sqlite3"
    with (
        closing(sqlite3.connect(settings.DATABASES["default"]["NAME"])) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
    target.chmod(0o600)


def _collect_static() -> None:
    """Collect static files unless they are what was collected last."""
    found = hashlib.sha256()
    for finder in finders.get_finders():
        for path, storage in finder.list([]):
            file = Path(storage.path(path)).stat()
            found.update(f"{path} {file.st_size} {file.st_mtime_ns}\n".encode())
    stamp = Path(settings.STATIC_ROOT) / ".collected"
    if stamp.exists() and stamp.read_text(encoding="ascii") == found.hexdigest():
        return
    call_command("collectstatic", interactive=False, verbosity=0, clear=False)
    stamp.write_text(found.hexdigest(), encoding="ascii")
