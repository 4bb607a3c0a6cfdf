"""The working folders of trainings, and when they go.

    jobs/<id>/a<attempt>/result     what a run that succeeded leaves: to be published from

What is published is copied to the artifacts: nothing of a version lies here.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now

from training.models import Job

# A folder that is being deleted; whoever dies meanwhile leaves it to the next round.
_GOING = ".gone"
_DAY_SECONDS = 86_400


def of(job_id: object) -> Path:
    """Return where a training's attempts are."""
    return _root() / str(job_id)


def result(job: Job) -> Path:
    """Return where the files of a finished training are."""
    return of(job.pk) / f"a{job.attempt}" / "result"


def is_kept(job: Job) -> bool:
    """Whether a finished training can still be published from its files."""
    return (result(job) / "result.json").exists()


def forget() -> int:
    """Delete the folders of trainings that ended long ago; returns how many.

    A folder is renamed first: what is half deleted is never taken for a result.
    """
    root = _root()
    if not root.is_dir():
        return 0
    for place in list(_due(root)):
        place.rename(place.with_name(place.name + _GOING))
    going = list(root.glob(f"*{_GOING}"))
    for place in going:
        # One that cannot be deleted keeps no other.
        shutil.rmtree(place, ignore_errors=True)
    return len(going)


def _root() -> Path:
    return Path(settings.DATA) / "jobs"


def _due(root: Path) -> Iterator[Path]:
    """Yield the folders that nothing needs: of what has ended, or has no row."""
    days = settings.TRAINING_RETENTION_DAYS
    since = ExpressionWrapper(Now() - timedelta(days=days), output_field=DateTimeField())
    for place in root.iterdir():
        # The row says when it ended; the folder's own date spares asking about young ones.
        is_old = time.time() - place.stat().st_mtime > days * _DAY_SECONDS
        if not is_old or not _is_id(place.name):
            continue
        found = Job.objects.filter(pk=place.name)
        over = found.filter(state__in=Job.TERMINAL, finished_at__lt=since)
        if over.exists() or not found.exists():
            yield place


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
