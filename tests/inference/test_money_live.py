"""The promise: what is answered is charged, what is charged is answered, and no cap is passed."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from benchmarks import load
from billing import budgets
from billing.models import Hold, UsageEvent
from billing.money import parse
from tests import factories
from tests.live import Site

CLIENTS = 64


def calls(site: Site, secret: str, body: bytes, count: int) -> list[httpx.Response]:
    """Make `count` calls over 64 parallel connections."""
    local = threading.local()

    def one(_: int) -> httpx.Response:
        if not hasattr(local, "client"):
            local.client = httpx.Client(base_url=site.url, timeout=90)
        response: httpx.Response = local.client.post(
            "/v1/predictions",
            content=body,
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
        )
        return response

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, range(count)))


def costs(responses: list[httpx.Response]) -> int:
    return sum(parse(one.headers["Mercato-Cost"]) for one in responses if one.status_code == 200)


def test_money_for_a_hundred_calls_buys_exactly_a_hundred(site: Site) -> None:
    """Invariant 3; regression 1, 8, 44: 64 connections, 300 calls, money for 100."""
    organization = factories.make_organization(credit_nanos=100 * factories.ROW_NANOS)
    _, secret = factories.make_key(organization)
    version = factories.make_version()

    responses = calls(site, secret, factories.body(version), 300)

    statuses = Counter(response.status_code for response in responses)
    assert statuses == {200: 100, 402: 200}
    codes = {one.json()["error"]["code"] for one in responses if one.status_code == 402}
    assert codes == {"insufficient_credit"}
    site.settle()
    wallet = budgets.wallet(organization)
    assert (wallet.available, wallet.held) == (0, 0)


def test_a_spending_limit_of_a_key_is_kept_by_parallel_calls(site: Site) -> None:
    """Invariant 3, 4; regression 4, 8: the key's cap holds in every process."""
    organization = factories.make_organization()
    key, secret = factories.make_key(organization)
    budgets.set_limit(organization, "month", 50 * factories.ROW_NANOS, api_key=key)
    version = factories.make_version()

    responses = calls(site, secret, factories.body(version), 150)

    assert Counter(one.status_code for one in responses) == {200: 50, 402: 100}
    assert {one.json()["error"]["code"] for one in responses if one.status_code == 402} == {
        "cap_reached"
    }


def test_the_sum_of_the_costs_is_what_leaves_the_balance(site: Site) -> None:
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    version = factories.make_version(row_nanos=33_333)

    responses = calls(site, secret, factories.body(version), 400)

    assert {one.status_code for one in responses} == {200}
    site.settle()
    assert costs(responses) == parse("5") - budgets.wallet(organization).available


def test_killing_the_worker_three_times_charges_exactly_what_was_answered(site: Site) -> None:
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    version = factories.make_version()
    ended = threading.Event()
    responses: list[httpx.Response] = []

    def call_until_ended() -> None:
        while not ended.is_set():
            responses.extend(calls(site, secret, factories.body(version), CLIENTS))

    caller = threading.Thread(target=call_until_ended)
    caller.start()
    for _ in range(3):
        seen = len(responses)
        while len(responses) <= seen:
            ended.wait(0.01)
        site.kill("predict")
        site.start_worker()
    site.wait_ready()
    ended.set()
    caller.join()

    assert {one.status_code for one in responses} <= {200, 503, 504}
    site.settle()
    answered = [one for one in responses if one.status_code == 200]
    assert costs(responses) == parse("5") - budgets.wallet(organization).available
    assert UsageEvent.objects.count() == len(answered)
    assert {one.json()["cost"]["hold"] for one in answered} == {
        str(hold_id)
        for hold_id in Hold.objects.filter(state="captured").values_list("pk", flat=True)
    }
    assert not Hold.objects.filter(state="authorised").exists()


def test_one_task_and_two_commits_carry_a_whole_batch(site: Site) -> None:
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    version = factories.make_version()

    headers = {"Authorization": f"Bearer {secret}"}
    request = load.post("/v1/predictions", site.port, factories.body(version), headers)

    # Callers that cost little: from slow ones too few meet to make a batch.
    measured = load.run("127.0.0.1", site.port, request, CLIENTS, 3.0)

    sizes = UsageEvent.objects.values_list("batch_rows", flat=True)
    assert measured.statuses == {200: len(sizes)}
    # Each call of a batch of n counts 1/n of a batch.
    batches = sum(1 / size for size in sizes)
    assert batches < len(sizes) / 3
