"""The Idempotency-Key: one answer and one charge, however often a request is sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from billing import credit
from billing.models import UsageEvent
from inference.models import Prediction
from tests import factories
from tests.live import Site

KEY = {"Idempotency-Key": "order-7"}


def test_the_same_request_is_answered_again_and_charged_once(site: Site) -> None:
    """Invariant 28: the same answer, one charge."""
    _, secret = factories.make_key(factories.make_organization())
    body = factories.body(factories.make_version())

    first, second = (site.predict(secret, body, **KEY) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert UsageEvent.objects.count() == 1


def test_another_request_with_the_same_key_is_refused(site: Site) -> None:
    """Invariant 28: another body is refused."""
    _, secret = factories.make_key(factories.make_organization())
    version = factories.make_version()
    site.predict(secret, factories.body(version, 1), **KEY)

    response = site.predict(secret, factories.body(version, 2), **KEY)

    assert (response.status_code, response.json()["error"]["code"]) == (422, "idempotency_mismatch")


def test_the_same_key_of_another_organization_is_another_key(site: Site) -> None:
    body = factories.body(factories.make_version())
    secrets = [factories.make_key(factories.make_organization())[1] for _ in range(2)]

    answers = [site.predict(secret, body, **KEY).json()["id"] for secret in secrets]

    assert answers[0] != answers[1]


def test_parallel_requests_with_one_key_are_charged_once(site: Site) -> None:
    """Invariant 28: at once, one executes."""
    _, secret = factories.make_key(factories.make_organization())
    body = factories.body(factories.make_version())

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: site.predict(secret, body, **KEY), range(16)))

    assert {one.status_code for one in answers} <= {200, 409}
    assert len({one.json()["id"] for one in answers if one.status_code == 200}) == 1
    assert UsageEvent.objects.count() == 1


def test_a_refusal_for_want_of_credit_may_be_tried_again_with_the_same_key(site: Site) -> None:
    poor = factories.make_organization(credit_nanos=0)
    _, secret = factories.make_key(poor)
    body = factories.body(factories.make_version())
    assert site.predict(secret, body, **KEY).status_code == 402

    credit.grant(poor, 10**9, external_ref="top-up", reason="test")

    assert site.predict(secret, body, **KEY).status_code == 200
    assert Prediction.objects.count() == 1
