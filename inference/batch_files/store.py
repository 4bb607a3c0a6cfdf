"""Where a batch file and its results lie in the data folder; what is there is whole and synced.

    batches/<id>/input              the file as it was uploaded
    batches/<id>/000012.3.jsonl     the results of chunk 12 by its third attempt

A chunk's results are written under the attempt's own name before its charge is committed. The row
then says which attempt counts; what other attempts left is never read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from django.conf import settings

from inference.models import BatchChunk, BatchFile

_READ_BYTES = 1 << 20
# A folder without a row is left alone while its upload may still be under way.
_ORPHAN_SECONDS = 3600


def folder(batch_id: UUID) -> Path:
    """Return the folder of one batch file."""
    return Path(settings.BATCHES) / str(batch_id)


def source(batch_id: UUID) -> Path:
    """Return where the uploaded file is."""
    return folder(batch_id) / "input"


def result(chunk: BatchChunk) -> Path:
    """Return where the results of a chunk's latest attempt are."""
    return folder(chunk.batch_id) / f"{chunk.number:06d}.{chunk.attempt}.jsonl"


def save(batch_id: UUID, parts: Iterable[bytes]) -> tuple[int, str]:
    """Write an uploaded file; returns its size in bytes and its SHA-256."""
    digest, size = hashlib.sha256(), 0
    place = source(batch_id)
    place.parent.mkdir(mode=0o700, parents=True)
    with place.open("xb") as file:
        for part in parts:
            digest.update(part)
            size += file.write(part)
        file.flush()
        os.fsync(file.fileno())
    _sync(place.parent)
    _sync(place.parent.parent)
    return size, digest.hexdigest()


def write(place: Path, lines: Iterable[bytes]) -> int:
    """Put a file in place, whole or not at all; returns its size in bytes."""
    staged = place.with_suffix(".tmp")
    size = 0
    with staged.open("wb") as file:
        for line in lines:
            size += file.write(line)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(place)
    _sync(place.parent)
    return size


def beginning(batch_id: UUID, size: int = 4096) -> bytes:
    """Return the first bytes of an uploaded file."""
    with source(batch_id).open("rb") as file:
        return file.read(size)


def delete(batch_id: UUID) -> None:
    """Remove a file and its results; twice is fine."""
    shutil.rmtree(folder(batch_id), ignore_errors=True)


def delete_orphans() -> int:
    """Remove what uploads left that died before their row was written; returns how many."""
    removed = 0
    root = Path(settings.BATCHES)
    for place in root.iterdir() if root.is_dir() else ():
        is_old = time.time() - place.stat().st_mtime > _ORPHAN_SECONDS
        if is_old and not BatchFile.objects.filter(pk=place.name).exists():
            shutil.rmtree(place, ignore_errors=True)
            removed += 1
    return removed


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
