"""Some test dies at every named point of the code, and every point that a test names is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from billing import periods
from tests.billing import deaths

pytestmark = pytest.mark.once
ROOT = Path(__file__).resolve().parents[1]
APPS = ("accounts", "catalog", "billing", "inference", "training", "maas_site")
# What the money machine cannot run, for it needs workers and files: who dies there instead.
NAMED: Mapping[str, str] = {
    "async.": "tests/inference/asynchronous/test_crashes.py",
    "batch_file.": "tests/inference/batch_files/test_crashes.py",
}


def points(tree: ast.AST) -> Iterator[str]:
    """Return the names in `crashes.point(…)`; one that is put together ends with `{}`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "crashes.point":
            continue
        (name,) = node.args
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value
        else:
            # Only `close.{period.state}` is known: what else is computed must be added here.
            assert ast.unparse(name) == "f'close.{period.state}'", ast.unparse(name)
            yield from (f"close.{state}" for state in periods._STEPS)


def texts(path: Path) -> set[str]:
    """Return all literal texts of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def in_code() -> set[str]:
    """Return every named point of the site."""
    found: set[str] = set()
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            found |= set(points(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def drawn() -> set[str]:
    """Return the parts whose points the rules of the money machine draw."""
    found: set[str] = set()
    for path in (ROOT / "tests/billing").glob("money_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "dying":
                found |= {ast.literal_eval(argument) for argument in node.args}
    return found


def test_some_test_dies_at_every_point() -> None:
    """Invariant 11: a point that is added needs a test that dies there."""
    in_machine = {*deaths.BEFORE_COMMIT, *deaths.AFTER_COMMIT}
    missing = in_code() - in_machine
    named = {
        point
        for prefix, place in NAMED.items()
        for point in missing
        if point.startswith(prefix) and point in texts(ROOT / place)
    }
    assert missing - named == set()
    assert {point.partition(".")[0] for point in in_machine} == drawn()


def test_every_point_that_a_test_names_is_in_the_code() -> None:
    prefixes = {point.partition(".")[0] + "." for point in in_code()}
    named = {*deaths.BEFORE_COMMIT, *deaths.AFTER_COMMIT}
    for prefix, place in NAMED.items():
        assert prefix in prefixes
        named |= {
            text for text in texts(ROOT / place) if text.startswith(prefix) and "{" not in text
        }
    assert {each for each in named if not each.endswith(".")} <= in_code()


def test_a_point_that_is_new_is_found() -> None:
    tree = ast.parse('if ready:\n    crashes.point("pay.booked")\ncrashes.watch("other")')
    assert list(points(tree)) == ["pay.booked"]
