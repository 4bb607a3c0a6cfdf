from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Organization
from billing import (
    currencies,
    invoices,
    minor,
)
from billing.models import (
    BillingPeriod,
    Invoice,
    InvoiceSeries,
)
from billing.money import NANOS
from catalog import prices
from catalog.models import ModelVersion
from tests.billing import calls
from tests.billing import postpaid_world as world
from tests.billing.invoicing import billed, make_period
from tests.billing.postpaid_world import START, Clock
from tests.billing.threads import in_threads
from tests.factories import make_key, make_organization

# Coins --------------------------------------------------------------------------------------


@given(
    st.sampled_from(["usd", "jpy", "kwd", "isk", "ugx"]),
    st.lists(st.integers(-(10**15), 10**15), max_size=20),
)
def test_lines_sum_to_the_total(currency: str, amounts: list[int]) -> None:
    """Invariant 25: lines sum to the total, each less than a coin from its exact amount."""
    coin = minor.coin(currency)
    amounts.append(-sum(amounts) % coin)

    spread = currencies.spread(amounts, currency)

    assert sum(spread) * coin == sum(amounts)
    assert all(
        abs(coins * coin - nanos) < coin for coins, nanos in zip(spread, amounts, strict=True)
    )


@pytest.mark.parametrize(
    ("currency", "digits", "text"),
    [("usd", 2, "12.34"), ("jpy", 0, "1234"), ("kwd", 3, "1.234"), ("isk", 2, "12.34")],
)
def test_coins_are_written_as_the_currency_has_them(currency: str, digits: int, text: str) -> None:
    """Invariant 25: JPY has no decimals, KWD three; Stripe counts ISK and UGX with two."""
    assert currencies.exponent(currency) == digits
    assert currencies.text(1234, currency) == text
    assert currencies.text(-1234, currency) == f"-{text}"
    assert currencies.coins_per_micro(currency) * 10**6 == 10**digits


@given(st.sampled_from(["usd", "jpy", "kwd"]), st.integers(0, 10**12))
def test_what_stripe_makes_of_micro_units_is_at_most_half_a_coin_off(
    currency: str, micros: int
) -> None:
    coin = minor.coin(currency)

    coins = currencies.coins_of_micros(micros, currency)

    assert 2 * abs(coins * coin - micros * 1000) <= coin


def test_a_sum_that_is_no_whole_coin_is_refused() -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        currencies.spread([1], "usd")


# Numbers ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_eight_closers_leave_no_gap_and_no_number_twice() -> None:
    """Invariant 26: numbers are unique and gapless, also when half of the closers fail."""
    periods = [make_period(make_organization(credit_nanos=0)) for _ in range(16)]
    pairs = iter([periods[place : place + 2] for place in range(0, 16, 2)])

    def close() -> None:
        for place, period in enumerate(next(pairs)):
            fail_to_issue(period)
            invoices.issue(period, billed(place + 1))
            invoices.issue(period, billed(place + 1))

    def fail_to_issue(period: BillingPeriod) -> None:
        with transaction.atomic():
            invoices.issue(period, billed())
            transaction.set_rollback(True)

    in_threads(8, close)

    numbers = sorted(Invoice.objects.values_list("number", flat=True))
    year = Invoice.objects.latest("id").issued_at.year
    assert numbers == [f"INV-{year}-{number:06d}" for number in range(1, 17)]
    assert InvoiceSeries.objects.get().last_number == 16


@pytest.mark.django_db(transaction=True)
def test_eight_closers_of_one_month_write_one_invoice() -> None:
    """Regression 39: django-plans#118, django-oscar-invoices#17: one invoice, one number."""
    period = make_period(make_organization(credit_nanos=0))
    barrier = threading.Barrier(8)
    found: list[Invoice | None] = []

    def close() -> None:
        try:
            barrier.wait()
            found.append(invoices.issue(period, billed()))
        finally:
            connection.close()

    threads = [threading.Thread(target=close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [each and each.number for each in found] == [Invoice.objects.get().number] * 8
    assert InvoiceSeries.objects.get().last_number == 1


@pytest.mark.django_db
def test_each_year_has_a_series_of_its_own(clock: Clock) -> None:
    first = invoices.issue(make_period(make_organization(credit_nanos=0)), billed())
    clock.wait(days=365)

    second = invoices.issue(make_period(make_organization(credit_nanos=0)), billed())

    assert first is not None
    assert second is not None
    assert (first.number, second.number) == ("INV-2026-000001", "INV-2027-000001")


# Frozen -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_nothing_that_changes_later_changes_an_invoice(
    invoice: Invoice, tenant: Organization, version: ModelVersion, settings: Any
) -> None:
    """Invariant 27: names, prices, sellers and keys may change; the statement does not."""
    before = invoices.canonical(invoice.frozen)
    Organization.objects.filter(pk=tenant.pk).update(name="Renamed")
    version.model.name = "renamed"
    version.model.save()
    prices.add(model=version.model, components={"row": (1, 1)})
    settings.SELLER_NAME = "Another seller"
    settings.INVOICE_PREFIX = "X"

    invoice = Invoice.objects.get()

    assert invoices.canonical(invoice.frozen) == before
    assert invoices.digest(invoice.frozen) == invoice.sha256
    assert invoice.frozen["customer"]["name"] == "Acme"


@pytest.mark.django_db
@pytest.mark.parametrize("column", ["number", "total_minor", "subtotal_minor", "sha256", "frozen"])
def test_the_database_refuses_to_change_an_invoice(invoice: Invoice, column: str) -> None:
    """Invariant 27: not even SQL changes what was frozen."""
    value: Any = {} if column == "frozen" else 0
    with pytest.raises(DatabaseError), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(**{column: value})
    with pytest.raises(DatabaseError), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).delete()


@pytest.mark.django_db
def test_lines_name_models_and_keys_and_what_credit_paid(
    clock: Clock, version: ModelVersion, books: None
) -> None:
    """Invariant 25: usage less what credit paid, less what is carried, is the total."""
    tenant = world.make_postpaid(slug="acme", credit_nanos=2 * NANOS)
    key, _ = make_key(tenant, name="production")
    calls.succeed(tenant, version, key=key, rows=150_300, at=START)
    world.use(tenant, version, START, rows=50_000)

    world.close_month(clock, tenant)

    invoice = Invoice.objects.get()
    lines = [
        (line["kind"], line["key"], line["calls"], line["exact"], line["amount"])
        for line in invoice.frozen["lines"]
    ]
    assert lines == [
        ("usage", "production", 1, "3.006", "3.01"),
        ("usage", "", 1, "1", "1.00"),
        ("credit", "", 0, "-2", "-2.00"),
        ("carried_out", "", 0, "-0.006", "-0.01"),
    ]
    assert invoice.frozen["lines"][0]["model"] == version.path
    assert (invoice.total_minor, invoice.frozen["total"]) == (200, "2.00")


@pytest.mark.django_db
def test_a_month_with_very_many_lines_says_the_rest_in_one(
    clock: Clock, version: ModelVersion, monkeypatch: pytest.MonkeyPatch, books: None
) -> None:
    monkeypatch.setattr("billing.invoice_lines.MAX_USAGE_LINES", 2)
    tenant = world.make_postpaid(slug="acme")
    for rows in (1_000, 2_000, 4_000):
        calls.succeed(tenant, version, key=make_key(tenant, name=str(rows))[0], rows=rows, at=START)
    world.use(tenant, version, START, rows=500)

    world.close_month(clock, tenant)

    lines = [
        (line["kind"], line["key"], line["exact"]) for line in Invoice.objects.get().frozen["lines"]
    ]
    assert lines == [("usage", "4000", "0.08"), ("rest", "", "0.07")]
