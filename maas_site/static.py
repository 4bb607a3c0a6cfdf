"""How static files are kept."""

from __future__ import annotations

from typing import Any

from whitenoise.compress import Compressor
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # no types
    """Names with a hash of the content, and a copy with gzip.

    Never Brotli, whether or not some other package brings it: it makes the files of the console
    and of the API reference a tenth smaller, and the first start 40 s of computing longer.
    """

    def create_compressor(self, **kwargs: Any) -> Compressor:
        """Return what compresses one file."""
        return Compressor(**kwargs | {"use_brotli": False})
