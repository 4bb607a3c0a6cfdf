"""Quotes and ceilings: what a run will cost is known before, and holds."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.keys import Caller
from accounts.models import Organization
from billing import budgets, holds, quotes, rating, settlement, shares
from billing.errors import QuoteExpiredError
from billing.models import Hold, Quote, ShareVersion, UsageEvent
from billing.reports import Report, Terms
from catalog import prices
from catalog.models import ModelVersion
from tests import factories
from tests.inference.writers import make_writer
from tests.training.conftest import keyed

pytestmark = pytest.mark.usefixtures("books", "rings")

PATH = "/v1/quotes"

LINE = {"recipe": "linear-regression", "hyperparameters": {"epochs": 2}}


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


def post(client: APIClient, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, body, format="json", headers=headers)


def quote_of(client: APIClient, body: Any) -> dict[str, Any]:
    answer = post(client, PATH, body)
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def test_a_model_that_writes_text_is_not_quoted(client: APIClient) -> None:
    """Its calls take no quote: one could never be used."""
    writer = make_writer()

    answer = post(client, PATH, {"model": writer.model.path, "rows": 1})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "wrong_task")
    assert not Quote.objects.exists()


def dearer(version: ModelVersion) -> None:
    prices.add(model=version.model, components={"row": (10**6, 1)})


def test_a_quote_says_what_a_call_will_cost_at_most_and_until_when(
    client: APIClient, version: ModelVersion
) -> None:
    answer = post(client, PATH, {"model": version.model.path, "rows": 250})

    body = answer.json()
    assert answer.status_code == 201
    assert (body["object"], body["status"], body["model"]) == ("quote", "open", version.path)
    assert body["amount"] == "0.005"
    assert body["units"] == {"call": 1, "row": 250, "byte": 1_048_576}
    assert body["outcome_policy"]["model_error"] == 0
    assert body["outcome_policy_text"]["expired"]["en"] == "No worker reports an end in time."
    assert client.get(answer["Location"]).json() == body


def test_the_rows_of_an_input_are_counted(client: APIClient, version: ModelVersion) -> None:
    images = [factories.image(), factories.image(4)]

    body = quote_of(client, {"model": version.path, "input": {"image": images}})

    assert body["units"]["row"] == 2
    assert 0 < body["units"]["byte"] < 100_000


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_request", "model"),
        ({"model": "a/b", "training": LINE, "rows": 1}, "invalid_request", "model"),
        ({"model": "no/body", "rows": 1}, "model_not_found", "model"),
        ({"model": "a/b"}, "invalid_request", "rows"),
        ({"model": "a/b", "rows": 0}, "invalid_request", "rows"),
        ({"model": "a/b", "rows": True}, "invalid_request", "rows"),
        ({"model": "a/b", "rows": 2000}, "invalid_request", "rows"),
        ({"model": "a/b", "gold": 1}, "unknown_field", "gold"),
        ({"training": {"recipe": "gpt"}}, "invalid_recipe", "recipe"),
        ({"training": {**LINE, "rows": 1}}, "unknown_field", "rows"),
        ({"training": LINE, "rows": 1}, "invalid_request", "rows"),
    ],
)
def test_what_cannot_be_quoted_is_refused(
    client: APIClient, body: Any, code: str, param: str
) -> None:
    error = post(client, PATH, body).json()["error"]

    assert (error["code"], error["param"]) == (code, param)
    assert not Quote.objects.exists()


def test_an_input_that_does_not_fit_is_said_before_the_call(
    client: APIClient, version: ModelVersion
) -> None:
    answer = post(client, PATH, {"model": version.path, "input": {"image": [1]}})

    assert answer.json()["error"]["code"] == "invalid_shape"


def test_a_quote_of_another_organization_is_not_there(
    client: APIClient, version: ModelVersion
) -> None:
    body = quote_of(client, {"model": version.path, "rows": 1})
    stranger = keyed(factories.make_organization())

    assert stranger.get(f"{PATH}/{body['id']}").status_code == 404
    with pytest.raises(QuoteExpiredError, match="no such"):
        quotes.read(factories.make_organization().pk, body["id"])


def test_the_same_key_gives_the_same_quote(client: APIClient, version: ModelVersion) -> None:
    body = {"model": version.path, "rows": 1}
    headers = {"Idempotency-Key": "mine"}

    first, again = (post(client, PATH, body, **headers).json() for _ in range(2))

    assert first["id"] == again["id"]
    assert Quote.objects.count() == 1


def use(organization: Organization, version: ModelVersion, quote: Quote, rows: int = 1) -> Hold:
    """Admit and charge one call by a quote, as a lane and a worker do."""
    units = {"call": 1, "row": rows, "byte": 100}
    promise = quotes.promise(
        quotes.read(organization.pk, str(quote.pk)), quantities=units, model_version_id=version.pk
    )
    made = holds.prepare(
        Caller(organization.pk, organization.slug),
        promise.plan,
        share_version_id=promise.share_version_id,
        quantities=units,
        source="api",
        accepted_at=timezone.now(),
        expires_at=timezone.now() + timedelta(minutes=1),
        model_version_id=version.pk,
        quote_id=promise.quote_id,
    )
    holds.reserve(made)
    share = ShareVersion.objects.get(pk=made.share_version_id)
    holds.capture(
        Report(
            hold_id=made.hold_id,
            outcome="succeeded",
            terms=Terms(promise.plan, share.publisher_bps, version.outcome_policy),
            quantities=units,
            organization_id=organization.pk,
            reserved_nanos=made.reserved_nanos,
            accepted_at=made.accepted_at,
            completed_at=timezone.now(),
            model_version_id=version.pk,
        )
    )
    return Hold.objects.get(pk=made.hold_id)


def make(organization: Organization, version: ModelVersion, rows: int = 1) -> Quote:
    price = prices.current(version.model)
    assert price is not None
    return quotes.make(
        organization.pk,
        rating.plan_of(price),
        share_version_id=shares.current().pk,
        quantities={"call": 1, "row": rows, "byte": 1000},
        model_version_id=version.pk,
    )


def test_price_and_share_of_a_quote_hold_although_both_change(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 18: what was promised before a price change is what is charged after it."""
    quote = make(organization, version, rows=3)
    dearer(version)
    ShareVersion.objects.create(publisher_bps=100)

    hold = use(organization, version, quote, rows=3)

    assert hold.captured_nanos == quote.amount_nanos == 3 * factories.ROW_NANOS
    usage = UsageEvent.objects.get(hold=hold)
    assert usage.publisher_nanos == hold.captured_nanos * 8 // 10
    quote.refresh_from_db()
    assert (quote.hold_id, quotes.state(quote)) == (hold.pk, "used")


def test_a_quote_is_good_for_one_run(organization: Organization, version: ModelVersion) -> None:
    quote = make(organization, version)
    use(organization, version, quote)

    with pytest.raises(QuoteExpiredError, match="used"):
        use(organization, version, quote)


def test_of_many_who_use_a_quote_at_once_one_does(transactional_db: None) -> None:
    version, organization = factories.make_version(), factories.make_organization()
    quote = make(organization, version)
    start, done = threading.Barrier(4), list[str]()

    def run() -> None:
        start.wait()
        try:
            use(organization, version, quote)
            done.append("charged")
        except QuoteExpiredError as error:
            done.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == ["charged", *["quote_not_valid"] * 3]
    assert Hold.objects.count() == 1


def test_a_quote_that_has_expired_is_refused(
    organization: Organization, version: ModelVersion, settings: Any
) -> None:
    settings.QUOTE_MINUTES = 0
    quote = make(organization, version)

    with pytest.raises(QuoteExpiredError, match="expired"):
        use(organization, version, quote)
    assert quotes.state(quote) == "expired"


@pytest.mark.parametrize("rows", [4, 5])
def test_a_quote_covers_no_more_than_it_says(
    organization: Organization, version: ModelVersion, rows: int
) -> None:
    quote = make(organization, version, rows=3)

    with pytest.raises(QuoteExpiredError, match="at most 3 of row"):
        use(organization, version, quote, rows=rows)


def test_a_quote_is_for_one_version(organization: Organization, version: ModelVersion) -> None:
    quote = make(organization, version)

    with pytest.raises(QuoteExpiredError, match="another version"):
        use(organization, factories.make_version(), quote)


@pytest.mark.parametrize("text", ["", "x", "00000000-0000-0000-0000-000000000000"])
def test_what_is_no_quote_is_refused(organization: Organization, text: str) -> None:
    with pytest.raises(QuoteExpiredError, match="no such"):
        quotes.read(organization.pk, text)


def test_the_database_keeps_what_was_promised(
    organization: Organization, version: ModelVersion
) -> None:
    quote = make(organization, version)

    with pytest.raises(DatabaseError), transaction.atomic():
        Quote.objects.filter(pk=quote.pk).update(amount_nanos=1)
    use(organization, version, quote)
    with pytest.raises(DatabaseError), transaction.atomic():
        Quote.objects.filter(pk=quote.pk).update(hold=None)


def test_a_free_call_by_a_quote_is_counted_and_takes_nothing(organization: Organization) -> None:
    """Invariant 40: a call without a price is recorded as usage, and no budget is touched."""
    version = factories.make_version(row_nanos=0)
    before = budgets.wallet(organization)

    hold = use(organization, version, make(organization, version))
    settlement.settle()

    assert (hold.captured_nanos, UsageEvent.objects.get(hold=hold).rows) == (0, 1)
    after = budgets.wallet(organization)
    assert (after.available, after.posted, after.held) == (before.available, 0, 0)


def test_quotes_that_nobody_used_are_forgotten_and_used_ones_kept(
    organization: Organization, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, unused = make(organization, version), make(organization, version)
    use(organization, version, used)
    monkeypatch.setattr(quotes, "KEPT", timedelta(hours=-2))

    assert quotes.forget_expired() == 1

    assert list(Quote.objects.all()) == [used]
    assert not Quote.objects.filter(pk=unused.pk).exists()
