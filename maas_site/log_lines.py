"""How a line of the log looks: for people, or a JSON object per line; with the request's id.

What comes from outside may be in a message. A line break or an escape sequence in it must not
begin a line of its own, nor reach a terminal.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from contextvars import ContextVar
from datetime import UTC, datetime

# The request that this task or thread works on; empty outside of requests.
request_id: ContextVar[str] = ContextVar("request_id", default="")


class PlainFormatter(logging.Formatter):
    """`2026-11-22 16:40:00,123 WARNING inference.asgi [req_…] message`, then the traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Put the id before the message, which stays on its line."""
        about = request_id.get()
        message = printable(record.message)
        record.message = f"[{about}] {message}" if about else message
        return super().formatMessage(record)


class JSONFormatter(logging.Formatter):
    """One JSON object per line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if about := request_id.get():
            line["request_id"] = about
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def printable(text: str) -> str:
    """Return a text in which control and direction characters are escaped."""
    if text.isprintable():
        return text
    return "".join(_escaped(each) for each in text)


def _escaped(character: str) -> str:
    # Cc: control; Cf: among others those that turn the direction of what follows.
    if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} and character != "\t":
        return character.encode("unicode_escape").decode()
    return character
