"""Why a start was refused."""

from __future__ import annotations


class StartError(Exception):
    """The start cannot go on; the text says what would help."""


class StopRequested(Exception):  # noqa: N818  (not an error: Ctrl-C or SIGTERM)
    """Somebody asked the supervisor to stop."""
