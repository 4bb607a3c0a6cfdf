"""The outcome policy: one table, one rule, one text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.utils import translation

from billing import outcomes
from billing.outcomes import ALWAYS_FREE, OUTCOMES, billed_percent
from training import estimates

ROOT = Path(__file__).resolve().parents[2]


def test_the_policy_decides_and_the_default_fills_what_it_leaves_out() -> None:
    assert billed_percent({}, "succeeded") == 100
    assert billed_percent({"model_error": 30}, "model_error") == 30
    assert outcomes.complete({"model_error": 30}) == {
        "succeeded": 100,
        "model_error": 30,
        "platform_error": 0,
        "canceled": 0,
        "limit_reached": 0,
        "not_started": 0,
        "expired": 0,
    }


@pytest.mark.parametrize("outcome", sorted(ALWAYS_FREE))
def test_no_policy_charges_for_what_was_not_run(outcome: str) -> None:
    assert billed_percent({outcome: 100}, outcome) == 0


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_policy_is_a_percentage(percent: int) -> None:
    with pytest.raises(ValueError, match="percent"):
        billed_percent({"succeeded": percent}, "succeeded")


def test_an_unknown_outcome_is_an_error_and_never_free() -> None:
    with pytest.raises(ValueError, match="exploded"):
        billed_percent({}, "exploded")


def test_a_policy_stored_before_an_outcome_was_known_still_holds() -> None:
    stored = {"succeeded": 100, "model_error": 0, "platform_error": 0, "canceled": 0}

    assert outcomes.complete(stored) == outcomes.complete({})


def test_a_training_that_is_canceled_pays_for_its_compute() -> None:
    assert billed_percent(estimates.POLICY, "canceled") == 100
    assert billed_percent(estimates.POLICY, "not_started") == 0
    assert billed_percent(estimates.POLICY, "limit_reached") == 0


def test_every_outcome_has_a_text_in_both_languages() -> None:
    for outcome, texts in outcomes.texts().items():
        assert texts["en"] == str(outcomes.TEXTS[outcome])
        assert texts["zh"]


def test_lines_are_in_the_order_of_the_table_and_in_the_reader_s_language() -> None:
    with translation.override("en"):
        lines = outcomes.lines({"model_error": 50})

    assert [line.outcome for line in lines] == list(OUTCOMES)
    assert (lines[1].percent, lines[1].text) == (50, "The model fails on a valid input.")


def test_nothing_else_decides_what_an_outcome_costs() -> None:
    """Only the report of a run, and the proofs and previews made from it, ask for a percentage."""
    found = set()
    for app in ("billing", "inference", "training", "catalog", "maas_site"):
        for file in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = getattr(node, "id", getattr(node, "attr", ""))
                if name == "billed_percent":
                    found.add(str(file.relative_to(ROOT)))

    assert found - {"billing/outcomes.py"} == {
        "billing/price_previews.py",
        "billing/checks/rating.py",
        "billing/reports.py",
    }
