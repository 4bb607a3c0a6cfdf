"""The documents say what is there: every setting, every error code, no dead link."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator

from accounts.errors import MercatoError
from billing import webhooks
from inference.asynchronous import failures
from tests import money_table
from training.errors import FAILURES

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
APPS = ("accounts", "catalog", "billing", "inference", "training", "maas_site")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
READERS = {"labels", "text", "integer", "boolean", "nanos", "one_of"}
# Set by make, read to know whether it is there, and set by tests: not for people to set.
INTERNAL = {"MAKELEVEL", "MERCATO_CRASH_AT", "MERCATO_SLOW_ROW_MS"}


def settings_read() -> set[str]:
    """Return the names that the site's code reads from the environment."""
    found = set()
    for app in APPS:
        for file in (ROOT / app).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found |= {name for node in ast.walk(tree) for name in _names(node)}
    return found - INTERNAL


def _names(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Call) or not node.args:
        return
    first, function = node.args[0], node.func
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return
    is_reader = (
        isinstance(function, ast.Attribute)
        and function.attr in READERS
        and ast.unparse(function.value) in {"env", "environment"}
    ) or (isinstance(function, ast.Name) and function.id in READERS)
    if (is_reader and first.value.isupper()) or ast.unparse(function) == "os.environ.get":
        yield first.value


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the tables below a heading: first cell → the others."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.split(rf"^## {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    section = re.split(r"^## ", section, maxsplit=1, flags=re.MULTILINE)[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        match = re.match(r"\| `([^`]+)` \|(.*)\|$", line)
        if match:
            assert match[1] not in found, f"{match[1]} is documented twice"
            found[match[1]] = [cell.strip() for cell in match[2].split("|")]
    return found


def error_classes() -> set[type[MercatoError]]:
    """Return every refusal: whichever module of the apps it is in."""
    for app in APPS:
        for file in (ROOT / app).rglob("*.py"):
            if "MercatoError" in (text := file.read_text(encoding="utf-8")) or "Error):" in text:
                module = file.relative_to(ROOT).with_suffix("")
                importlib.import_module(".".join(module.parts))
    found, waiting = set(), [MercatoError]
    while waiting:
        kind = waiting.pop()
        if kind.__module__.partition(".")[0] in APPS:
            found.add(kind)
        waiting += kind.__subclasses__()
    return found


def test_every_setting_is_documented_and_no_other() -> None:
    documented = rows("settings.md", "Settings")

    assert documented.keys() == settings_read()
    for name, cells in documented.items():
        assert all(cells), f"{name}: an empty cell"


def test_every_error_code_is_documented_with_its_status_and_no_other() -> None:
    documented = rows("errors.md", "Errors of requests")

    real = {kind.code: str(kind.status_code) for kind in error_classes()}
    assert {code: cells[0] for code, cells in documented.items()} == real


def test_every_way_a_prediction_fails_is_documented_and_no_other() -> None:
    documented = rows("errors.md", "How an asynchronous prediction fails")

    assert documented.keys() == failures.FAILURES.keys()


def test_every_way_a_training_fails_is_documented_and_no_other() -> None:
    assert rows("errors.md", "How a training fails").keys() == FAILURES.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """A path in backquotes with a slash and an ending is a file of the tree."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)

    for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|html|css|md|toml))`", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_every_path_of_the_api_is_documented_and_no_other() -> None:
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]  # type: ignore[no-untyped-call]  # untyped
    real = {
        f"{method.upper()} {re.sub(r'{.*?}', '{}', path)}"
        for path, methods in paths.items()
        for method in methods
    }
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

    headings = "\n".join(re.findall(r"^### .*$", text, flags=re.MULTILINE))
    found = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /v[12][^`]*)`", headings)
    assert {re.sub(r"{.*?}", "{}", each) for each in found} == real


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_are_json(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    for example in re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL):
        json.loads(example)
    for body in re.findall(r"-d '([^']*)'", text):
        json.loads(body)


def test_the_events_that_stripe_is_to_send_are_those_that_are_handled() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = text.partition("\n## Stripe\n")[2]
    listed = re.search(r"^Types:\n\n```\n(.*?)\n```$", section, re.DOTALL | re.MULTILINE)
    assert listed is not None
    assert sorted(listed[1].split()) == sorted(webhooks.HANDLERS)


def test_every_rule_of_money_has_a_test_and_the_table_names_it() -> None:
    invariants, regressions = money_table.collect()
    assert money_table.INVARIANTS.keys() - money_table.WITHOUT_TEST == invariants.keys()
    assert money_table.REGRESSIONS.keys() == regressions.keys()

    page = (ROOT / "docs/money.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- money table -->\n(.*)\n<!-- /money table -->", page, re.DOTALL)
    assert table is not None
    assert table[1] == money_table.render()
