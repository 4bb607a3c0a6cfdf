"""Tenants are told in advance that a model they use becomes dearer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail as mailbox
from django.test import Client
from django.utils import timezone

from accounts import mail
from accounts.models import Organization, OutgoingMail, User
from billing import price_changes, price_notices
from billing.price_changes import Target
from catalog import prices
from catalog.models import ModelVersion, PriceChange
from tests import factories
from tests.billing.test_price_changes import CHEAPER, DEARER, use

pytestmark = pytest.mark.usefixtures("books")


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


@pytest.fixture
def tenant(version: ModelVersion) -> Organization:
    owner = factories.make_user("tenant@example.com")
    made = factories.make_organization(owner=owner)
    use(made, version)
    return made


def approved(version: ModelVersion) -> PriceChange:
    """Propose a dearer price and let a second operator approve it."""
    one = factories.make_user("one@example.com", is_staff=True)
    two = factories.make_user("two@example.com", is_staff=True)
    change = price_changes.propose(
        Target(version.model), DEARER, reason="Power costs more", actor=one
    )
    price_changes.approve(change, actor=two)
    return change


def test_who_used_the_model_is_told_once(version: ModelVersion, tenant: Organization) -> None:
    change = approved(version)

    price_notices.announce()
    price_notices.announce()
    mail.send_due()

    (sent,) = mailbox.outbox
    assert sent.to == ["tenant@example.com"]
    assert version.model.path in sent.subject
    assert "costs $0.00004 / row. Until then it costs $0.00002 / row." in sent.body
    assert "Reason: Power costs more" in sent.body
    change.refresh_from_db()
    assert change.noticed_at is not None
    assert change.price_version is not None
    assert change.noticed_at < change.price_version.effective_from - timedelta(days=13)


def test_who_begins_to_use_it_before_the_price_does_is_told_too(
    version: ModelVersion, tenant: Organization
) -> None:
    approved(version)
    price_notices.announce()
    late = factories.make_organization(owner=factories.make_user("late@example.com"))
    use(late, version)

    price_notices.announce()

    told = OutgoingMail.objects.order_by("pk").values_list("user__email", flat=True)
    assert list(told) == ["tenant@example.com", "late@example.com"]


def test_nobody_is_told_of_a_cheaper_price(version: ModelVersion, tenant: Organization) -> None:
    actor = factories.make_user(is_staff=True)
    price_changes.propose(
        Target(version.model),
        CHEAPER,
        effective_from=timezone.now() + timedelta(days=3),
        actor=actor,
    )

    assert price_notices.announce() == 0
    assert not OutgoingMail.objects.exists()


def test_the_page_and_the_api_say_what_comes_and_since_when_the_price_holds(
    client: Client, version: ModelVersion, tenant: Organization
) -> None:
    change = approved(version)
    change.refresh_from_db()
    _, secret = factories.make_key(tenant)

    page = client.get(f"/models/{version.model.path}?tab=readme").content.decode()
    api = client.get("/v1/models", headers={"Authorization": f"Bearer {secret}"}).json()

    assert "this model costs $0.00004 / row" in page
    assert "You cancel the run after it has started." in page
    (item,) = api["data"]
    now = prices.current(version.model)
    assert now is not None
    assert item["price"]["version"] == now.pk
    assert item["price"]["effective_from"] == now.effective_from.isoformat()
    assert item["next_price"]["version"] == change.price_version_id
    assert item["next_price"]["components"] == [
        {"dimension": "row", "from": 0, "amount": "0.00004", "per": 1}
    ]
    assert item["version"]["outcome_policy"]["succeeded"] == 100


def test_the_mail_is_in_the_reader_s_language(version: ModelVersion, tenant: Organization) -> None:
    User.objects.filter(email="tenant@example.com").update(language="zh-hans")
    approved(version)

    price_notices.announce()

    (waiting,) = OutgoingMail.objects.all()
    assert waiting.context["new_zh_hans"]
    assert mail.send_due() == 1
