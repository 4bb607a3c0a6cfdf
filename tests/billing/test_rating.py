"""What a run costs."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import UnratedError
from billing.money import decimal_text, parse
from billing.outcomes import billed_percent
from billing.rating import PricePlan, rate, share


def plan(components: dict[str, tuple[int, int]], minimum: int = 0) -> PricePlan:
    return PricePlan(
        1, "usd", minimum, {name: ((0, *price),) for name, price in components.items()}
    )


@pytest.mark.parametrize(
    ("components", "quantities", "expected"),
    [
        ({"row": (20_000, 1)}, {"row": 3}, 60_000),
        ({"row": (20_000, 1)}, {"row": 0}, 0),
        ({"row": (1, 2)}, {"row": 1}, 1),  # half a nano is rounded up
        ({"row": (1, 3)}, {"row": 1}, 0),
        ({"row": (1, 3), "call": (1, 3)}, {"row": 1, "call": 1}, 1),  # summed, then rounded once
        ({"compute_ms": (50_000, 1000)}, {"compute_ms": 1500}, 75_000),
        ({"row": (0, 1)}, {"row": 9}, 0),
    ],
)
def test_a_price_is_summed_exactly_and_rounded_once(
    components: dict[str, tuple[int, int]], quantities: dict[str, int], expected: int
) -> None:
    assert rate(plan(components), quantities) == expected


def test_the_minimum_applies_after_rounding() -> None:
    assert rate(plan({"row": (1, 1)}, 500), {"row": 3}) == 500
    assert rate(plan({"row": (1, 1)}, 500), {"row": 501}) == 501


@pytest.mark.parametrize("quantities", [{"row": -1}, {"token": 5}, {}])
def test_what_cannot_be_priced_is_an_error_and_never_free(quantities: dict[str, int]) -> None:
    with pytest.raises(UnratedError):
        rate(plan({"row": (1, 1)}), quantities)


@given(st.integers(0, 10**12), st.integers(1, 10**6), st.integers(0, 10**9), st.integers(0, 10**9))
def test_rating_is_within_half_a_nano_of_the_exact_price(
    amount: int, per: int, rows: int, calls: int
) -> None:
    exact = Fraction(amount * rows, per) + Fraction(amount * calls, per)

    rated = rate(plan({"row": (amount, per), "call": (amount, per)}), {"row": rows, "call": calls})

    assert abs(rated - exact) <= Fraction(1, 2)


@given(st.integers(-(10**18), 10**18))
def test_an_amount_survives_being_written_and_read(nanos: int) -> None:
    if abs(nanos) < 10**18:
        assert parse(decimal_text(nanos)) == nanos


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "0"), (20_000, "0.00002"), (5 * 10**9, "5"), (-1, "-0.000000001")]
)
def test_an_amount_is_written_exactly(nanos: int, text: str) -> None:
    assert decimal_text(nanos) == text


@pytest.mark.parametrize("text", ["", "1,5", "1e3", "NaN", "1.0000000001", " ", "--1"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse(text)


@given(st.integers(0, 10**15), st.integers(0, 100))
def test_a_share_is_never_more_than_the_whole(cost: int, percent: int) -> None:
    assert 0 <= share(cost, percent) <= cost


def test_the_policy_decides_what_an_outcome_costs() -> None:
    assert billed_percent({}, "succeeded") == 100
    assert billed_percent({}, "platform_error") == 0
    assert billed_percent({"model_error": 30}, "model_error") == 30
    with pytest.raises(ValueError, match="exploded"):
        billed_percent({}, "exploded")
    with pytest.raises(ValueError, match="percent"):
        billed_percent({"succeeded": 101}, "succeeded")
