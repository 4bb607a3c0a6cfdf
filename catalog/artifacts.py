"""Files of versions: staged whole, then put in place by one rename."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from catalog.models import Artifact, ModelVersion

_STAGING = ".staging"


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file or folder that is copied and synced, not yet in its place."""

    kind: str
    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Staged:
    """The files of one version, below a folder of their own."""

    folder: Path
    files: tuple[StagedFile, ...]

    def discard(self) -> None:
        """Remove what was not put in place."""
        shutil.rmtree(self.folder, ignore_errors=True)


def stage(files: Mapping[str, Path]) -> Staged:
    """Copy files and folders, by kind, into the artifacts folder and sync them to disk."""
    folder = Path(settings.ARTIFACTS) / _STAGING / uuid.uuid4().hex
    folder.mkdir(parents=True)
    staged = Staged(folder, ())
    try:
        return Staged(folder, tuple(_copy(kind, path, folder) for kind, path in files.items()))
    except OSError:
        staged.discard()
        raise


def _copy(kind: str, source: Path, folder: Path) -> StagedFile:
    target = folder / source.name
    if source.is_dir():
        # Links are copied as links and then refused: nothing outside the folder is read.
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target, follow_symlinks=False)
    if any(path.is_symlink() for path in [target, *target.rglob("*")]):
        raise OSError(f"{source.name} has a link in it.")
    for path in files_of(target):
        _sync(path)
    for path in [*(path for path in target.rglob("*") if path.is_dir()), folder]:
        _sync(path)
    size = sum(path.stat().st_size for path in files_of(target))
    return StagedFile(kind, source.name, sha256(target), size)


def place(staged: Staged, version: ModelVersion) -> None:
    """Move staged files to where a version's files are and write their rows.

    The version's number must be taken by this transaction: nobody else may mean this folder.
    """
    relative = f"{version.model_id}/{version.number}"
    final = Path(settings.ARTIFACTS) / relative
    final.parent.mkdir(parents=True, exist_ok=True)
    # Left by a transaction that was rolled back after its rename.
    shutil.rmtree(final, ignore_errors=True)
    staged.folder.rename(final)
    _sync(final.parent)
    Artifact.objects.bulk_create(
        Artifact(
            version=version,
            kind=file.kind,
            path=f"{relative}/{file.name}",
            sha256=file.sha256,
            size_bytes=file.size_bytes,
        )
        for file in staged.files
    )


def is_intact(artifact: Artifact) -> bool:
    """Whether the bytes on disk are those that were published."""
    path = Path(settings.ARTIFACTS) / artifact.path
    return path.exists() and sha256(path) == artifact.sha256


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or the files below a folder in a fixed order."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names, sizes and contents."""
    digest = hashlib.sha256()
    for file in files_of(path):
        if path.is_dir():
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
