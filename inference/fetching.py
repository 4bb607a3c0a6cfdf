"""Model files on this machine's disk: fetched once, checked against their SHA-256 when read."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from pathlib import Path

from django.conf import settings

from catalog import artifacts
from catalog.models import Artifact, ModelVersion

logger = logging.getLogger(__name__)
_STAGING = ".staging"
# What was read a moment ago may be about to be opened: it is not removed to make room.
_RECENT_SECONDS = 60.0


class DamagedArtifactError(Exception):
    """The stored bytes of a version are not those that were published."""


def fetch(artifact: Artifact) -> Path:
    """Return a file or folder with exactly the bytes that were published.

    A damaged copy is removed and fetched again.

    Raises:
        DamagedArtifactError: The bytes in the artifacts folder are not those either.
        OSError: The artifacts folder or the disk cannot be used.
    """
    path = _folder() / artifact.sha256 / Path(artifact.path).name
    if path.exists():
        if artifacts.sha256(path) == artifact.sha256:
            os.utime(path.parent)
            return path
        logger.error("%s is damaged on this disk and is fetched again", artifact)
        shutil.rmtree(path.parent)
    _bring(artifact, path)
    _make_room(keep=path.parent)
    return path


def tokenizer(version: ModelVersion) -> Path | None:
    """Return the file that cuts texts into tokens, for versions that read texts.

    Raises:
        DamagedArtifactError, OSError: As of `fetch`.
    """
    artifact = version.artifacts.filter(kind=Artifact.Kind.TOKENIZER).first()
    return fetch(artifact) if artifact else None


def _folder() -> Path:
    return Path(settings.MODEL_FILES)


def _bring(artifact: Artifact, path: Path) -> None:
    """Copy the file whole to one side, check it, and put it in place by one rename."""
    staged = _folder() / _STAGING / uuid.uuid4().hex
    staged.mkdir(parents=True)
    try:
        source, copy = Path(settings.ARTIFACTS) / artifact.path, staged / path.name
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copyfile(source, copy)
        if artifacts.sha256(copy) != artifact.sha256:
            raise DamagedArtifactError(f"{artifact} is not what was published.")
        try:
            staged.rename(path.parent)
        except OSError:
            # Another worker of this machine was first; what it brought has the same name.
            if not path.exists():
                raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _make_room(*, keep: Path) -> None:
    """Remove what was read longest ago until the rest fits."""
    entries = [
        (entry.stat().st_mtime, _size(entry), entry)
        for entry in _folder().iterdir()
        if entry.name != _STAGING
    ]
    excess = sum(size for _, size, _ in entries) - settings.MODEL_FILES_BYTES
    for read_at, size, entry in sorted(entries):
        if excess <= 0:
            return
        if entry != keep and read_at < time.time() - _RECENT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)
            excess -= size


def _size(entry: Path) -> int:
    return sum(file.stat().st_size for file in artifacts.files_of(entry))
