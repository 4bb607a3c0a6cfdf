"""The alerts and the board ask for what /metrics gives, and each alert says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client

from inference.metrics import families, tally
from tests.inference.watched import Exposed

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ALERTS = yaml.safe_load((ROOT / "docs/monitoring/alerts.yml").read_text(encoding="utf-8"))
BOARD = json.loads((ROOT / "docs/monitoring/dashboard.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = BOARD["panels"]
# A metric, and the labels it is asked for by, if any.
_ASKED = re.compile(r"\b(mercato_\w+)(?:\{([^}]*)\})?")
_BY = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def expressions() -> list[str]:
    return [rule["expr"] for rule in RULES] + [
        target["expr"] for panel in PANELS for target in panel["targets"]
    ]


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield (metric, labels that it must have to be chosen so) of an expression."""
    for name, chosen in _ASKED.findall(expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", chosen))


def counted() -> dict[str, set[str]]:
    """Return the samples that processes tell, and their labels."""
    found: dict[str, set[str]] = {gauge.name: set(gauge.labels) for gauge in _gauges()}
    for family in families.ALL:
        labels = set(family.labels)
        if family.bounds:
            found |= {f"{family.name}_{end}": labels for end in ("sum", "count")}
            found[f"{family.name}_bucket"] = labels | {"le"}
        else:
            found[family.name] = labels
    return found


def _gauges() -> list[families.Gauge]:
    return list(families.GAUGES.values())


@pytest.fixture
def given(db: None, client: Client) -> dict[str, set[str] | None]:
    """What /metrics can give: its labels; None where nothing is there now to have labels."""
    page = Exposed(client.get("/metrics").content.decode())
    found: dict[str, set[str] | None] = {}
    for name in page.kinds:
        labels = page.labels(name)
        found[name] = set(labels[0]) if labels else None
    return found | counted()


def test_rules_and_board_ask_for_metrics_and_labels_that_there_are(
    given: dict[str, set[str] | None],
) -> None:
    for expression in expressions():
        for name, labels in asked(expression):
            assert name in given, f"{name} is no metric: {expression}"
            known = given[name]
            assert known is None or labels <= known, f"{name} has no {labels - known}"


def test_sums_are_by_labels_that_there_are(given: dict[str, set[str] | None]) -> None:
    for expression in expressions():
        known = set[str]().union(*(given[name] or set() for name, _ in asked(expression)))
        for group in _BY.findall(expression):
            assert set(re.findall(r"\w+", group)) <= known, expression


def test_every_expression_closes_what_it_opens() -> None:
    for expression in expressions():
        text = re.sub(r'"[^"]*"', "", expression)
        for opening, closing in ("()", "{}", "[]"):
            assert text.count(opening) == text.count(closing), expression
        assert expression.count('"') % 2 == 0, expression


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_and_where_it_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "runbook_url"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    names = [rule["alert"] for rule in RULES]
    section = re.split(r"^## ", OPERATIONS.partition("\n## Alerts\n")[2], flags=re.MULTILINE)[0]

    parts = re.split(r"^### (\w+)\n", section, flags=re.MULTILINE)[1:]
    assert sorted(parts[::2]) == sorted(names)
    assert len(set(names)) == len(names)
    assert all(len(text.split()) > 5 for text in parts[1::2])
    # What they name beside the alert is there too.
    assert set(re.findall(r"`(mercato_\w+)", section)) <= set(documented()) | set(counted())


def test_a_failure_is_what_the_pages_call_a_failure() -> None:
    [rule] = [rule for rule in RULES if rule["alert"] == "MercatoModelFails"]

    chosen = re.findall(r'outcome=~"([^"]*)"', rule["expr"])
    assert [set(each.split("|")) for each in chosen] == [tally.FAULTS]


def test_the_board_can_be_imported() -> None:
    assert (BOARD["title"], BOARD["uid"]) == ("Mercato", "mercato")
    [source] = BOARD["templating"]["list"]
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & places, f"{panel['title']} lies on another"
        places |= cells
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)


def documented() -> list[str]:
    """Return the names in the first column of the table of metrics."""
    table = OPERATIONS.partition("| Metric | Labels | What it says |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return re.findall(r"`(\w+)`", " ".join(cells))


def test_every_metric_is_documented_and_no_other(given: dict[str, set[str] | None]) -> None:
    histograms = {family.name for family in families.ALL if family.bounds}
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in given}
    singles = {name for name in given if re.sub(r"_(sum|count)$", "", name) not in histograms}

    assert histograms <= names
    real = {name for name in singles if not name.endswith("_bucket")} | histograms
    assert sorted(documented()) == sorted(real)
