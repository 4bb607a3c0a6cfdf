from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from accounts.models import Organization
from billing import charge_refunds, finished, outcomes, rating, receipts, settlement, triggers
from billing.models import Hold, LedgerTransaction
from catalog import prices
from catalog.models import ModelVersion
from tests.billing.calls import fail, reserve, succeed
from tests.factories import make_key, make_organization, make_user, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(client: Client, organization: Organization) -> Callable[[str], Any]:
    """Read from the API with a real key."""
    _key, secret = make_key(organization)

    def read(path: str, status: int = 200) -> Any:
        answer = client.get(path, headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == status, answer.content
        return answer.json()

    return read


def change(table: str, sql: str) -> None:
    """Change a row behind the guards' back."""
    with connection.cursor() as cursor:
        triggers.drop(connection, cursor)
        cursor.execute(f"UPDATE {table} SET {sql}")  # noqa: S608  (the table of a test)


def receipt_of(organization: Organization, hold_id: UUID) -> receipts.Receipt:
    return receipts.of(organization, hold_id)


def test_a_receipt_is_units_times_price_times_policy_with_its_place_in_the_books(
    api: Callable[[str], Any], organization: Organization, version: ModelVersion, books: None
) -> None:
    succeed(organization, version)
    hold_id = succeed(organization, version, rows=3)
    settlement.settle()

    said = api(f"/v1/receipts/{hold_id}")

    booked = LedgerTransaction.objects.get(kind="settlement")
    assert said["state"] == "settled"
    assert said["price"]["lines"] == [
        {
            "dimension": "row",
            "units": 3,
            "from": 0,
            "amount": "0.00002",
            "per": 1,
            "subtotal": "0.00006",
        }
    ]
    assert (said["price"]["amount"], said["policy"]["percent"]) == ("0.00006", 100)
    assert (said["charged"], said["reserved"], said["refunded"]) == ("0.00006", "0.00006", "0")
    assert (said["share"]["publisher"], said["share"]["platform"]) == ("0.000048", "0.000012")
    assert said["settlement"]["calls"] == 2
    assert said["ledger"]["transaction"] == booked.pk
    assert said["ledger"]["number"] == booked.number == 2
    assert said["proof"]["number"] == said["proof"]["of"] == 2
    assert said["proof"]["settlement_digest"] == booked.details["digest"]
    assert said["verified"] == dict.fromkeys(
        ["holds", "rated", "chained", "booked", "sealed"], True
    )


def test_a_receipt_says_the_policy_in_the_words_of_the_page_and_what_refunds_took_back(
    api: Callable[[str], Any],
    page: Callable[[str], str],
    client: Client,
    organization: Organization,
    version: ModelVersion,
    books: None,
) -> None:
    hold_id = succeed(organization, version)
    settlement.settle()
    booked = LedgerTransaction.objects.get(kind="settlement")
    boss = make_user("boss@example.com", is_staff=True, is_superuser=True)
    for number, nanos in enumerate((5_000, 7_000)):
        charge_refunds.refund(
            hold_id, nanos, external_ref=f"form:{number}", reason="Faulty", actor=boss
        )

    said, shown = api(f"/v1/receipts/{hold_id}"), page(f"/console/usage/{hold_id}")

    texts = [line["text"] for line in said["policy"]["lines"]]
    assert texts == [str(text) for text in outcomes.TEXTS.values()]
    assert all(escape(text) in shown for text in texts)
    assert [each["reverses"] for each in said["refunds"]] == [booked.pk, booked.pk]
    back = [each["transaction"] for each in said["refunds"]]
    assert f"ledger transaction {back[1]}, which takes back a part of {booked.pk}" in shown
    client.force_login(boss)
    address = reverse("admin:billing_ledgertransaction_change", args=[booked.pk])
    console = client.get(address).content.decode()
    assert all(f"charge_refunded {hold_id}:{number}" in console for number in (1, 2))


def test_a_receipt_is_found_by_the_request_id_of_the_call(
    api: Callable[[str], Any], page: Callable[..., str], organization: Organization, version: Any
) -> None:
    hold_id = succeed(organization, version)
    Hold.objects.filter(pk=hold_id).update(request_id="req_mine")

    assert api("/v1/receipts/req_mine")["id"] == str(hold_id)
    page("/console/receipts/req_mine", status=302)


@pytest.mark.parametrize("reference", ["{theirs}", "req_test", "nonsense", "a" * 300])
def test_another_tenants_receipt_is_not_found(
    api: Callable[..., Any], page: Callable[..., str], version: ModelVersion, reference: str
) -> None:
    """Invariant 35: no tenant reads another's receipt, by hold or by request id."""
    theirs = succeed(make_organization(), version)
    settlement.settle()
    path = reference.format(theirs=theirs)

    assert api(f"/v1/receipts/{path}", status=404)["error"]["code"] == "not_found"
    page(f"/console/receipts/{path}", status=404)
    page(f"/console/usage/{theirs}", status=404)


def test_a_call_that_has_not_ended_or_is_not_settled_says_so(
    api: Callable[[str], Any], page: Callable[[str], str], organization: Organization, version: Any
) -> None:
    running = reserve(organization, version).hold_id
    ended = succeed(organization, version)

    said = api(f"/v1/receipts/{running}")
    assert (said["state"], said["outcome"], said["ledger"]) == ("open", None, None)
    assert "set aside" in said["why"]
    assert "Not settled yet" in page(f"/console/usage/{running}")
    said = api(f"/v1/receipts/{ended}")
    assert (said["state"], said["charged"], said["proof"]) == ("pending", "0.00002", None)
    assert "Not settled yet" in page(f"/console/usage/{ended}")


@pytest.mark.parametrize(
    ("failure", "outcome", "words"),
    [
        ("model_error", "model_error", "The model fails"),
        ("platform_error", "platform_error", "The platform fails"),
        ("overloaded", "not_started", "before it starts"),
    ],
)
def test_a_call_that_was_not_charged_says_why(
    api: Callable[[str], Any],
    page: Callable[[str], str],
    organization: Organization,
    version: ModelVersion,
    failure: str,
    outcome: str,
    words: str,
) -> None:
    hold_id = fail(organization, version, failure)
    settlement.settle()

    said = api(f"/v1/receipts/{hold_id}")

    assert (said["outcome"], said["charged"], said["policy"]["percent"]) == (outcome, "0", 0)
    assert words in said["why"]
    assert "Nothing was charged." in said["why"]
    assert said["verified"]["holds"]
    assert "Nothing was charged." in page(f"/console/usage/{hold_id}")


def test_the_page_shows_arithmetic_policy_and_proof(
    page: Callable[[str], str], organization: Organization, version: ModelVersion
) -> None:
    hold_id = succeed(organization, version, rows=3)
    settlement.settle()

    shown = page(f"/console/usage/{hold_id}")

    for text in ["3 rows × $0.00002", "100 % of it", "Verified", "The hash chain", "$0.000048"]:
        assert text in shown
    assert receipt_of(organization, hold_id).settlement is not None


def test_tiers_and_a_minimum_are_lines_of_their_own(
    organization: Organization, version: ModelVersion
) -> None:
    prices.add(
        model=version.model,
        components={"row": [(0, 30, 7), (2, 10, 7)]},
        min_charge_nanos=500,
    )
    hold_id = succeed(organization, version, rows=5)

    found = receipt_of(organization, hold_id)

    assert [(line.units, line.nanos, line.is_exact) for line in found.lines] == [
        (2, 9, False),
        (3, 4, False),
    ]
    assert (found.is_minimum, found.price_nanos, found.charged_nanos) == (True, 500, 500)


def test_all_history_is_rated_the_same_again(
    organization: Organization, version: ModelVersion
) -> None:
    """Invariant 19: stored quantities at the stored price version give the cost, bit by bit."""
    made = []
    for step in range(8):
        prices.add(
            model=version.model,
            components={"row": [(0, 7_777 * step + 1, 13 - step), (9, step, 3)]},
            min_charge_nanos=step * 11,
        )
        made.append(succeed(organization, version, rows=step * 5 + 1))
    settlement.settle()

    for hold_id in made:
        found = receipt_of(organization, hold_id)
        assert receipts.verify(found).rated
        again = rating.rate(found.plan, receipts._quantities(found.usage))  # type: ignore[arg-type]  # it has usage
        assert again == found.charged_nanos


@pytest.mark.parametrize(
    ("table", "sql", "contradicted"),
    [
        ("billing_usageevent", "rows = rows + 1", {"rated", "chained"}),
        ("billing_usageevent", "occurred_at = completed_at, worker = 'x'", set()),
        ("billing_settlement", "digest = 'forged'", {"chained", "booked"}),
        ("billing_ledgertransaction", "reason = 'forged'", {"sealed"}),
        ("billing_ledgertransaction", "previous_hash = 'forged'", {"sealed"}),
        ("billing_ledgerentry", "amount_nanos = amount_nanos * 2", {"booked", "sealed"}),
    ],
)
def test_a_forged_row_is_named_by_what_no_longer_holds(
    organization: Organization,
    version: ModelVersion,
    table: str,
    sql: str,
    contradicted: set[str],
) -> None:
    hold_id = succeed(organization, version)
    settlement.settle()

    change(table, sql)

    said = receipts.verify(receipt_of(organization, hold_id))
    assert {
        name for name in ("rated", "chained", "booked", "sealed") if getattr(said, name) is False
    } == contradicted
    assert said.holds is not bool(contradicted)


def test_a_usage_row_and_the_csv_lead_to_the_receipt(
    api: Callable[[str], Any], organization: Organization, version: ModelVersion
) -> None:
    hold_id = succeed(organization, version)

    assert api("/v1/usage")["data"][0]["receipt"] == f"/v1/receipts/{hold_id}"


def test_an_unknown_call_has_no_receipt(organization: Organization) -> None:
    with pytest.raises(Hold.DoesNotExist):
        finished.of_hold(uuid4())


def test_a_training_explains_itself_by_the_policy_of_trainings(
    organization: Organization,
) -> None:
    version = make_version()
    hold_id = succeed(organization, version)
    change("billing_hold", "model_version_id = NULL")
    change("billing_usageevent", "model_version_id = NULL")

    found = receipt_of(organization, hold_id)

    assert next(line.percent for line in found.policy if line.outcome == "canceled") == 100
