"""Money is integers: no float may appear where amounts are worked out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for path in [*ROOT.glob("billing/**/*.py"), ROOT / "catalog/prices.py"]
    if "migrations" not in path.parts
)


def floats(tree: ast.AST) -> list[int]:
    """Return the lines with a float literal, float(), a FloatField or a true division."""
    found = []
    for node in ast.walk(tree):
        is_literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
        is_call = isinstance(node, ast.Name) and node.id == "float"
        is_field = isinstance(node, ast.Attribute) and node.attr == "FloatField"
        is_division = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if is_literal or is_call or is_field or is_division:
            found.append(node.lineno)  # type: ignore[attr-defined]
    return sorted(found)


@pytest.mark.once
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_float_where_amounts_are_worked_out(path: Path) -> None:
    """Invariant 36: integers only."""
    assert floats(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.once
def test_the_check_sees_floats() -> None:
    wrong = "a = 1.0\nb = float(x)\nc = a / b\nd = models.FloatField()"
    assert floats(ast.parse(wrong)) == [1, 2, 3, 4]
