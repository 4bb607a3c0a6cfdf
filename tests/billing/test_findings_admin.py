from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, User
from billing import budgets, ledger, reconciliation
from billing.models import Budget, Finding, ReconciliationRun
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_stripe")]


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.fixture
def finding(organization: Organization) -> Finding:
    wallet = budgets.wallet(organization)
    Budget.objects.filter(pk=wallet.pk).update(capacity=wallet.capacity + 5)
    reconciliation.run()
    return Finding.objects.get()


def submit(client: Client, address: str, **fields: str) -> Any:
    page = client.get(address).content.decode()
    hidden = re.search(r'name="submission" value="([^"]+)"', page)
    assert hidden is not None
    return client.post(address, {"submission": hidden[1], **fields}, follow=True)


def address(finding: Finding, deed: str) -> str:
    return reverse(f"admin:billing_finding_{deed}", args=[finding.pk])


def test_a_finding_is_listed_shown_and_corrected_with_a_reason(
    client: Client, operator: User, finding: Finding
) -> None:
    listed = client.get(reverse("admin:billing_finding_changelist") + "?state__exact=open")
    assert "wallets_are_their_budgets" in listed.content.decode()
    shown = client.get(reverse("admin:billing_finding_change", args=[finding.pk]))
    assert "$0.000000005" in shown.content.decode()

    answer = submit(client, address(finding, "correct"), reason="A bug of last week")

    finding.refresh_from_db()
    assert "Corrected." in answer.content.decode()
    assert (finding.state, finding.closed_by) == (Finding.State.CORRECTED, operator)
    reconciliation.run()
    assert reconciliation.open_findings() == 0


def test_a_finding_is_dismissed_and_cannot_be_dealt_with_again(
    client: Client, operator: User, finding: Finding
) -> None:
    submit(client, address(finding, "dismiss"), reason="Known")

    finding.refresh_from_db()
    assert (finding.state, finding.closed_reason) == (Finding.State.DISMISSED, "Known")
    answer = submit(client, address(finding, "correct"), reason="After all")
    assert "closed" in answer.content.decode()


def test_looking_changes_nothing(client: Client, operator: User, finding: Finding) -> None:
    client.get(address(finding, "correct"))
    client.get(address(finding, "dismiss"))
    client.get(reverse("admin:billing_reconciliationrun_run_now"))

    finding.refresh_from_db()
    assert finding.state == Finding.State.OPEN
    assert ReconciliationRun.objects.count() == 1


def test_a_comparison_is_asked_for(
    client: Client, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("billing.tasks.reconcile.delay", asked.append)

    answer = client.post(reverse("admin:billing_reconciliationrun_run_now"))

    assert answer.status_code == 302
    assert asked == [operator.pk]


def test_who_may_only_look_at_findings_cannot_act(client: Client, finding: Finding) -> None:
    person = make_user("support@example.com", is_staff=True)
    for name in ("view_finding", "view_reconciliationrun"):
        person.user_permissions.add(Permission.objects.get(codename=name))
    client.force_login(person)

    assert client.get(reverse("admin:billing_finding_changelist")).status_code == 200
    assert client.post(address(finding, "correct"), {"reason": "x"}).status_code == 403
    assert client.post(reverse("admin:billing_reconciliationrun_run_now")).status_code == 403
    assert ledger.balance_of(ledger.SUSPENSE) == 0
