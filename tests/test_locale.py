"""Every text of the site exists in Simplified Chinese, and what is compiled is what is written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES"
APPS = ("maas_site", "training", "inference", "billing", "catalog", "accounts")
CALLS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy"}
_STRING = r"""u?(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
_CALL = re.compile(rf"(?<!\w)(?:{'|'.join(CALLS)})\(({_STRING})")
_PLACE = re.compile(r"%\((\w+)\)s|\{(\w+)\}")


def _python_texts() -> Iterator[str]:
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _name(node.func) in CALLS and node.args:
                    first = node.args[0]
                    if isinstance(first, ast.Constant) and isinstance(first.value, str):
                        yield first.value


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _template_texts() -> Iterator[str]:
    for folder in (ROOT / "templates", *(ROOT / app / "templates" for app in APPS)):
        for path in [*folder.rglob("*.html"), *folder.rglob("*.txt")]:
            source = templatize(path.read_text(encoding="utf-8"), origin=str(path))
            for found in _CALL.finditer(source):
                yield ast.literal_eval(found[1])


def _read(name: str) -> Catalog:
    with (FOLDER / name).open("rb") as file:
        return read_po(file) if name.endswith(".po") else read_mo(file)


def _entries(catalog: Catalog) -> dict[str, Message]:
    return {_first(message.id): message for message in catalog if _first(message.id)}


def _text(message: Message) -> str:
    return _first(message.string)


def _first(texts: str | Sequence[str] | None) -> str:
    """Return the text itself, or the first of its plural forms."""
    if isinstance(texts, str):
        return texts
    return texts[0] if texts else ""


@pytest.fixture(scope="module")
def written() -> dict[str, Message]:
    return _entries(_read("django.po"))


def test_every_text_is_in_the_catalogue_and_nothing_else(written: dict[str, Message]) -> None:
    used = {*_python_texts(), *_template_texts()}

    assert sorted(used - written.keys()) == [], "run makemessages and translate"
    assert sorted(written.keys() - used) == [], "no longer used: take it out"


def test_no_text_is_untranslated_or_fuzzy(written: dict[str, Message]) -> None:
    assert [name for name, message in written.items() if not _text(message)] == []
    assert [name for name, message in written.items() if message.fuzzy] == []


def test_a_translation_has_the_places_of_its_original(written: dict[str, Message]) -> None:
    wrong = []
    for name, message in written.items():
        allowed = {name} if isinstance(message.id, str) else set(message.id)
        if _places(_text(message)) not in [_places(text) for text in allowed]:
            wrong.append(name)
    assert wrong == []


def _places(text: str) -> set[str]:
    return {found[1] or found[2] for found in _PLACE.finditer(text)}


def test_the_compiled_catalogue_is_fresh(written: dict[str, Message]) -> None:
    compiled = _entries(_read("django.mo"))

    assert {name: _text(message) for name, message in compiled.items()} == {
        name: _text(message) for name, message in written.items()
    }
