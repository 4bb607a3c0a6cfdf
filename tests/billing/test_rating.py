"""What a run costs."""

from __future__ import annotations

from fractions import Fraction

import pytest
from django.db import DatabaseError, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import UnratedError
from billing.money import decimal_text, parse
from billing.outcomes import billed_percent
from billing.rating import BATCH, PricePlan, for_source, is_higher, plan_of, rate, share
from billing.templatetags.money import price_line, price_lines
from catalog import prices
from catalog.models import PriceVersion
from catalog.prices import Tier


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


_TIER = st.tuples(st.integers(1, 1000), st.integers(0, 10**6), st.integers(1, 1000))
_DIMENSIONS = ("call", "row", "input_token", "output_token", "compute_ms", "byte")


@st.composite
def tiered_plans(draw: st.DrawFn) -> PricePlan:
    """Draw a price with tiers of any dimensions."""
    components = {}
    for name in draw(st.sets(st.sampled_from(_DIMENSIONS), min_size=1)):
        start, tiers = 0, []
        for step, amount, per in draw(st.lists(_TIER, min_size=1, max_size=4)):
            tiers.append((start, amount, per))
            start += step
        components[name] = tuple(tiers)
    return PricePlan(1, "usd", draw(st.integers(0, 10**6)), components)


def unit_by_unit(found: PricePlan, quantities: dict[str, int]) -> Fraction:
    """Price each unit for itself, by the tier it is in."""
    total = Fraction(0)
    for name, tiers in found.components.items():
        ends = [*(start for start, _, _ in tiers[1:]), 10**18]
        for (start, amount, per), end in zip(tiers, ends, strict=True):
            units = max(min(quantities[name], end) - start, 0)
            total += Fraction(amount, per) * units
    return total


@given(tiered_plans(), st.data())
def test_tiers_are_the_sum_of_exact_parts_rounded_half_up_once(
    found: PricePlan, data: st.DataObject
) -> None:
    quantities = {name: data.draw(st.integers(0, 3000)) for name in found.components}

    exact = unit_by_unit(found, quantities)

    assert rate(found, quantities) == max((2 * exact + 1).__floor__() // 2, found.min_charge_nanos)


@given(tiered_plans(), st.data())
def test_more_never_costs_less(found: PricePlan, data: st.DataObject) -> None:
    few = {name: data.draw(st.integers(0, 3000)) for name in found.components}
    many = {name: units + data.draw(st.integers(0, 3000)) for name, units in few.items()}

    assert rate(found, few) <= rate(found, many)


@given(tiered_plans(), tiered_plans(), st.data())
def test_a_price_that_is_not_higher_never_costs_more(
    new: PricePlan, old: PricePlan, data: st.DataObject
) -> None:
    quantities = {name: data.draw(st.integers(0, 5000)) for name in _DIMENSIONS}

    if not is_higher(new, old):
        assert rate(new, quantities) <= rate(old, quantities)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({"row": ((0, 10, 1),)}, False),
        ({"row": ((0, 20, 2),)}, False),
        ({"row": ((0, 11, 1),)}, True),
        ({"row": ((0, 9, 1), (1000, 11, 1))}, True),
        ({"row": ((0, 11, 1), (1000, 1, 1))}, True),
        ({"row": ((0, 10, 1), (1000, 1, 1))}, False),
        ({"call": ((0, 1, 1),)}, True),
        ({"call": ((0, 0, 1),)}, False),
        ({"row": ((0, 10, 1),), "byte": ((0, 1, 10**6),)}, True),
    ],
)
def test_a_price_is_higher_if_anything_costs_more(
    new: dict[str, tuple[Tier, ...]], expected: bool
) -> None:
    old = PricePlan(1, "usd", 0, {"row": ((0, 10, 1),)})

    assert is_higher(PricePlan(2, "usd", 0, new), old) is expected


def test_a_higher_minimum_is_a_higher_price() -> None:
    assert is_higher(plan({"row": (1, 1)}, 5), plan({"row": (1, 1)}, 4))


@given(
    amount=st.integers(0, 10**9),
    per=st.integers(1, 10**6),
    minimum=st.integers(0, 10**9),
    bps=st.integers(0, 10_000),
    rows=st.integers(0, 10**6),
)
def test_a_row_of_a_file_costs_exactly_that_much_less(
    amount: int, per: int, minimum: int, bps: int, rows: int
) -> None:
    full = PricePlan(1, "usd", minimum, {"row": ((0, amount, per),)}, bps)

    cost = rate(for_source(full, BATCH), {"row": rows})

    left = Fraction(10_000 - bps, 10_000)
    exact = max(Fraction(amount * rows, per) * left, minimum * left)
    assert abs(cost - exact) <= Fraction(1, 2)
    assert rate(for_source(full, "api"), {"row": rows}) == rate(full, {"row": rows})


def test_less_discount_for_files_is_a_higher_price() -> None:
    components = {"row": ((0, 20_000, 1),)}
    half, fifth = (PricePlan(1, "usd", 0, components, bps) for bps in (5000, 2000))

    assert is_higher(fifth, half)
    assert not is_higher(half, fifth)


@pytest.mark.django_db
def test_a_discount_for_files_is_part_of_the_price_and_never_changes() -> None:
    version = prices.add(sku="x", components={"row": (20_000, 1)}, batch_discount_bps=1250)

    assert price_line(version) == "$0.00002 / row · batch files −12.5 %"
    assert rate(for_source(plan_of(version), BATCH), {"row": 1}) == 17_500
    with pytest.raises(DatabaseError), transaction.atomic():
        PriceVersion.objects.filter(pk=version.pk).update(batch_discount_bps=0)


def test_tokens_and_bytes_are_rated_like_rows() -> None:
    priced = plan({"input_token": (20, 1000), "output_token": (60, 1000), "byte": (1, 10)})

    assert rate(priced, {"call": 1, "input_token": 500, "output_token": 250, "byte": 15}) == 27


def test_a_call_of_a_free_model_costs_nothing_and_is_not_estimated() -> None:
    """Regression 10: BerriAI/litellm#37992, explicit zero usage stays zero."""
    assert rate(plan({"row": (20_000, 1)}), {"call": 1, "row": 0}) == 0
    assert rate(plan({"input_token": (5, 1)}), {"call": 1, "input_token": 0}) == 0


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ({"row": [(0, 20_000, 1)]}, "$0.00002 / row"),
        ({"row": [(0, 5_000_000, 1000)]}, "$0.005 / 1,000 rows"),
        ({"compute_ms": [(0, 50_000, 1000)]}, "$0.00005 / second"),
        ({"compute_ms": [(0, 1, 1)]}, "$0.000001 / second"),
        ({"input_token": [(0, 20, 1)]}, "$0.02 / million input tokens"),
        ({"output_token": [(0, 2_000_000_000, 1_000_000)]}, "$2.00 / million output tokens"),
        ({"input_token": [(0, 1, 3)]}, "$0.000000001 / 3 input tokens"),
        ({"byte": [(0, 1_000, 1_000_000)]}, "$0.000001 / MB"),
        (
            {"row": [(0, 20_000, 1), (1000, 10_000, 1), (50_000, 0, 1)]},
            "$0.00002 / row up to 1,000, then $0.00001 / row up to 50,000, then free",
        ),
        ({"row": [(0, 0, 1), (100, 10_000, 1)]}, "free up to 100, then $0.00001 / row"),
        ({"row": [(0, 0, 1)]}, "Free"),
        ({"call": [(0, 1000, 1)], "row": [(0, 1, 1)]}, "$0.000001 / call + $0.000000001 / row"),
    ],
)
@pytest.mark.django_db
def test_a_price_is_written_so_that_it_can_be_read(
    components: dict[str, list[Tier]], expected: str
) -> None:
    made = prices.add(sku="test", components=components)

    assert price_line(made) == expected


@pytest.mark.django_db
def test_a_minimum_is_part_of_the_price() -> None:
    made = prices.add(sku="test", components={"row": (20_000, 1)}, min_charge_nanos=10_000_000)

    assert price_line(made) == "$0.00002 / row, at least $0.01 a run"
    assert price_lines(made) == ["$0.00002 / row", "At least $0.01 a run"]
