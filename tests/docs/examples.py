"""The examples of the documents: what a reader would type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.live import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_CURL = re.compile(r"\bcurl\s")
# What `make up` prints; here the site is somewhere else.
_ADDRESS = "http://127.0.0.1:8000"
# Fails on every status that is not a success, and shows the answer.
_STRICT = 'set -eu; curl() { command curl -sS --fail-with-body --max-time 120 "$@"; }\n'


def of(page: Path) -> list[str]:
    """Return the examples of a page in its order: blocks with curl, and programs in Python."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if _CURL.search(text) or _is_program(language, text)]


def _is_program(language: str, text: str) -> bool:
    """Whether it can be run by itself; those for the package `openai` have a test of their own."""
    return language == "python" and "os.environ" in text


def outside_of_blocks(page: Path) -> list[str]:
    """Return lines that begin with curl where nobody would find them to run them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if _CURL.match(line.strip())]


def command(example: str, python: str, url: str) -> list[str]:
    """Return how to run an example against the site at `url`."""
    if not _CURL.search(example):
        return [python, "-c", example]
    return ["bash", "-c", _STRICT + example.replace(_ADDRESS, url)]


def answers(printed: str) -> Iterator[dict[str, Any]]:
    """Read the JSON objects that an example has printed one after another."""
    decoder, place = json.JSONDecoder(), printed.find("{")
    while place >= 0:
        try:
            found, end = decoder.raw_decode(printed, place)
        except ValueError:
            return
        yield found
        place = printed.find("{", end)
