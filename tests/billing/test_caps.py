"""What a caller is told about its caps, in headers."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from accounts.models import ApiKey, Organization
from billing import budgets, caps
from billing.errors import CapReachedError, InsufficientCreditError
from billing.models import Hold, SpendLimit, Unit
from catalog.models import ModelVersion
from tests.billing.calls import reserve
from tests.factories import ROW_NANOS, make_key, make_organization

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]

# A list of strings with parameters that are integers or strings (RFC 9651, sections 3.1 and 4.1).
_VALUE = r'(?:-?\d{1,15}|"[\x20\x21\x23-\x5b\x5d-\x7e]*")'
_MEMBER = rf'"[a-z-]+"(?:;[a-z]+={_VALUE})*'
STRUCTURED = re.compile(rf"{_MEMBER}(?:, {_MEMBER})*")


def parse(header: str) -> dict[str, dict[str, str]]:
    """Read a list of structured fields."""
    assert STRUCTURED.fullmatch(header), header
    found = {}
    for member in header.split(", "):
        name, *parameters = member.split(";")
        found[name.strip('"')] = dict(each.split("=") for each in parameters)
    return found


def made(organization: Organization, version: ModelVersion, key: ApiKey) -> dict[str, str]:
    reservation = reserve(organization, version, key=key)
    return dict(caps.of_hold(Hold.objects.get(pk=reservation.hold_id)))


def test_headers_say_what_is_left_of_every_cap(
    organization: Organization, version: ModelVersion
) -> None:
    key, _ = make_key(organization)
    budgets.set_limit(organization, "day", 10 * ROW_NANOS, api_key=key)
    budgets.set_limit(organization, "lifetime", 7, unit="calls", api_key=key)
    budgets.set_limit(organization, "month", 1000, unit="calls")

    headers = made(organization, version, key)

    money = parse(headers["Mercato-Budget"])
    assert money.keys() == {"key-day", "organization-month", "wallet"}
    assert money["key-day"]["r"] == '"0.00018"'
    assert 0 < int(money["key-day"]["t"]) <= 86_400
    assert money["wallet"] == {"r": '"4.99998"'}
    calls = parse(headers["RateLimit"])
    assert calls["key-lifetime-calls"] == {"r": "6"}
    assert calls["organization-month-calls"]["r"] == "999"
    policies = parse(headers["RateLimit-Policy"])
    assert policies["key-lifetime-calls"] == {"q": "7"}
    assert policies["organization-month-calls"]["q"] == "1000"
    assert calls.keys() == policies.keys()


def test_without_caps_on_calls_there_is_no_rate_limit(
    organization: Organization, version: ModelVersion
) -> None:
    headers = made(organization, version, make_key(organization)[0])

    assert headers.keys() == {"Mercato-Budget"}


@pytest.mark.parametrize(
    ("window", "closes", "seconds"),
    [
        ("day", datetime(2026, 11, 23, tzinfo=UTC), ";w=86400"),
        ("month", datetime(2026, 12, 1, tzinfo=UTC), f";w={30 * 86_400}"),
        ("month", datetime(2028, 3, 1, tzinfo=UTC), f";w={29 * 86_400}"),
        ("month", datetime(2027, 3, 1, tzinfo=UTC), f";w={28 * 86_400}"),
        ("lifetime", None, ""),
    ],
)
def test_a_policy_has_the_length_of_its_window(
    window: str, closes: datetime | None, seconds: str
) -> None:
    member = budgets.Member(
        lock_rank=1,
        budget_id=1,
        unit=Unit.CALLS,
        name=budgets.name_of(1, window, Unit.CALLS),
        closes_at=int(closes.timestamp()) if closes else 0,
    )

    headers = dict(caps.texts([member], {1: (5, 10)}))

    assert headers["RateLimit-Policy"] == f'"key-{window}-calls";q=10{seconds}'


def test_numbers_stay_within_what_a_header_may_have() -> None:
    member = budgets.Member(1, 1, Unit.CALLS, "key-lifetime-calls", 0)

    headers = dict(caps.texts([member], {1: (-5, 10**18)}))

    assert headers["RateLimit"] == '"key-lifetime-calls";r=0'
    assert parse(headers["RateLimit-Policy"])["key-lifetime-calls"] == {"q": "9" * 15}


@pytest.mark.parametrize("unit", ["money", "calls"])
@pytest.mark.parametrize("window", SpendLimit.Window.values)
@pytest.mark.parametrize("with_key", [False, True])
def test_a_refusal_names_the_cap_its_window_and_when_it_opens_again(
    organization: Organization, version: ModelVersion, unit: str, window: str, with_key: bool
) -> None:
    """Regression: over a cap the caller knows which, what is left, and until when."""
    key, _ = make_key(organization)
    budgets.set_limit(organization, window, 0, unit=unit, api_key=key if with_key else None)

    with pytest.raises(CapReachedError) as refused:
        reserve(organization, version, key=key)

    error = refused.value
    name = budgets.name_of(key.pk if with_key else None, window, unit)
    assert error.cap == name
    assert f"the cap {name}" in error.message
    headers = dict(error.headers)
    state = parse(headers["RateLimit" if unit == "calls" else "Mercato-Budget"])[name]
    assert state["r"] in {"0", '"0"'}
    assert "wallet" in parse(headers["Mercato-Budget"])
    if window == "lifetime":
        assert error.retry_after is None
        assert "for the lifetime" in error.message
        assert "t" not in state
    else:
        now = datetime.now(UTC)
        closes = budgets.window_end(window, budgets.window_start(window, now))
        assert f"opens again at {closes}T00:00:00Z" in error.message
        assert error.retry_after is not None
        assert abs(int(state["t"]) - error.retry_after) <= 2


def test_an_empty_wallet_says_what_is_left(version: ModelVersion) -> None:
    poor = make_organization(credit_nanos=5)

    with pytest.raises(InsufficientCreditError) as refused:
        reserve(poor, version)

    headers = dict(refused.value.headers)
    assert parse(headers["Mercato-Budget"])["wallet"] == {"r": '"0.000000005"'}
