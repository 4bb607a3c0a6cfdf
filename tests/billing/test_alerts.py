"""Owners are told once per window and threshold, in their language, although mail fails."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as django_mail
from django.core.mail import EmailMessage
from django.db import DatabaseError, connection
from django.test import Client
from django.utils import timezone

from accounts import idempotency, mail
from accounts.models import IdempotentAnswer, Membership, Organization, OutgoingMail, User
from billing import alerts, budgets, credit, settlement
from billing.errors import CapReachedError
from billing.models import BalanceAlert, BalanceWatch, Budget, BudgetAlert
from catalog.models import ModelVersion
from tests.billing.calls import reserve, succeed
from tests.factories import ROW_NANOS, make_key, make_organization, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]


@pytest.fixture(autouse=True)
def _forget_refusals() -> None:
    alerts._noted.clear()


def percents(budget: Budget) -> list[int]:
    return sorted(budget.alerts.values_list("percent", flat=True))


# Thresholds --------------------------------------------------------------------------------


def test_each_threshold_is_noted_once_per_window(
    organization: Organization, version: ModelVersion
) -> None:
    """Regression: BerriAI/litellm#16185, #32597, one state per cap, window and threshold."""
    rule = budgets.set_limit(organization, "month", 10 * ROW_NANOS)
    budget = budgets.current(organization, rule)
    seen = []
    for _ in range(10):
        succeed(organization, version)
        settlement.settle()
        seen.append(percents(budget))

    assert seen == [[]] * 4 + [[50]] * 3 + [[50, 80]] * 2 + [[50, 80, 95, 100]]
    assert BudgetAlert.objects.count() == 4
    # The next window begins anew.
    following = budgets.current(organization, rule, timezone.now() + timedelta(days=32))
    assert percents(following) == []


def test_calls_have_thresholds_too(organization: Organization, version: ModelVersion) -> None:
    rule = budgets.set_limit(organization, "day", 4, unit="calls")
    for _ in range(2):
        succeed(organization, version)
    settlement.settle()

    assert percents(budgets.current(organization, rule)) == [50]


def test_money_that_is_only_held_passes_no_threshold(
    organization: Organization, version: ModelVersion
) -> None:
    budgets.set_limit(organization, "month", ROW_NANOS)
    reserve(organization, version)
    settlement.settle()

    assert not BudgetAlert.objects.exists()


# Refusals ----------------------------------------------------------------------------------


def test_a_refusal_counts_as_reaching_the_whole_cap_once(
    organization: Organization, version: ModelVersion, count_queries: Any
) -> None:
    key, _ = make_key(organization)
    rule = budgets.set_limit(organization, "day", ROW_NANOS, api_key=key)
    with pytest.raises(CapReachedError) as refused:
        reserve(organization, version, key=key, rows=2)

    alerts.note_refusals([None, refused.value])

    [alert] = BudgetAlert.objects.all()
    assert (alert.percent, alert.was_refused, alert.used) == (100, True, 0)
    assert alert.budget == budgets.current(organization, rule)
    # From then on a refusal costs no query.
    assert count_queries(lambda: alerts.note_refusals([refused.value])) == 0
    alerts._noted.clear()  # another process
    alerts.note_refusals([refused.value])
    assert BudgetAlert.objects.count() == 1


def test_a_refusal_that_cannot_be_noted_stays_a_refusal(
    organization: Organization, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets.set_limit(organization, "day", 1)
    with pytest.raises(CapReachedError) as refused:
        reserve(organization, version)

    def away(_: int) -> None:
        raise DatabaseError

    with monkeypatch.context() as patch:
        patch.setattr(alerts, "_note", away)
        alerts.note_refusals([refused.value])
    assert not BudgetAlert.objects.exists()

    alerts.note_refusals([refused.value])
    assert BudgetAlert.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_parallel_refusals_make_one_alert() -> None:
    organization = make_organization()
    rule = budgets.set_limit(organization, "day", 5)
    budget = budgets.current(organization, rule)

    def note(_: int) -> None:
        alerts._noted.clear()
        refusal = CapReachedError("", cap="", budget_id=budget.pk, retry_after=None)
        try:
            alerts.note_refusals([refusal])
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(16)))

    assert percents(budget) == [100]


# Mail --------------------------------------------------------------------------------------


def pass_thresholds(organization: Organization, version: ModelVersion, rows: int = 8) -> None:
    budgets.set_limit(organization, "month", 10 * ROW_NANOS)
    succeed(organization, version, rows=rows)
    settlement.settle()


def test_the_owners_get_one_mail_about_the_highest_threshold(
    organization: Organization, owner: User, version: ModelVersion
) -> None:
    second = make_user("second@example.com")
    developer = make_user("developer@example.com")
    Membership.objects.create(organization=organization, user=second)
    Membership.objects.create(organization=organization, user=developer, role="developer")
    pass_thresholds(organization, version)

    assert alerts.mail_due() == 2
    assert alerts.mail_due() == 0
    assert mail.send_due() == 2
    assert mail.send_due() == 0

    assert {message.to[0] for message in django_mail.outbox} == {owner.email, second.email}
    [first, _] = django_mail.outbox
    assert first.subject == f"[Mercato] {organization.slug}: 80 % of a budget is used"
    assert "$0.00016 used of $0.0002" in first.body
    assert "/console/budgets" in first.body
    assert "00:00 UTC" in first.body


def test_a_refusal_is_told_as_one(organization: Organization, version: ModelVersion) -> None:
    key, _ = make_key(organization, name="robot")
    budgets.set_limit(organization, "lifetime", 0, unit="calls", api_key=key)
    with pytest.raises(CapReachedError) as refused:
        reserve(organization, version, key=key)
    alerts.note_refusals([refused.value])

    alerts.mail_due()
    mail.send_due()

    [message] = django_mail.outbox
    assert "a budget refused a run" in message.subject
    assert "“robot”" in message.body
    assert "The next window" not in message.body


@pytest.mark.parametrize("code", ["", "en", "zh-hans"])
def test_mail_is_in_the_language_its_reader_uses(
    organization: Organization,
    owner: User,
    version: ModelVersion,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[str | None] = []

    def render(name: str, context: Any) -> str:
        used.append(mail.translation.get_language())  # type: ignore[attr-defined]  # as it was used
        return "text"

    monkeypatch.setattr(mail, "render_to_string", render)
    User.objects.filter(pk=owner.pk).update(language=code)
    pass_thresholds(organization, version)
    alerts.mail_due()

    mail.send_due()

    assert set(used) == {code or "en"}


def test_the_language_is_the_one_last_chosen_on_the_site(client: Client, owner: User) -> None:
    client.force_login(owner)

    client.post("/language", {"language": "zh-hans", "next": "/"})
    owner.refresh_from_db()
    assert owner.language == "zh-hans"
    client.post("/language", {"language": "tlh", "next": "/"})
    owner.refresh_from_db()
    assert owner.language == "zh-hans"


def failing(error: Exception, for_address: str = "") -> Callable[[EmailMessage], int]:
    real = EmailMessage.send

    def send(self: EmailMessage, fail_silently: bool = False) -> int:
        if not for_address or for_address in self.to:
            raise error
        return real(self, fail_silently)

    return send


@pytest.mark.parametrize(
    "error", [smtplib.SMTPServerDisconnected("away"), ConnectionRefusedError(), TimeoutError()]
)
def test_a_mail_server_that_is_away_loses_nothing(
    organization: Organization,
    version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    pass_thresholds(organization, version)
    alerts.mail_due()
    with monkeypatch.context() as patch:
        patch.setattr(EmailMessage, "send", failing(error))
        assert mail.send_due() == 0
    waiting = OutgoingMail.objects.get()
    assert waiting.attempts == 1
    assert type(error).__name__ in waiting.failure
    assert mail.send_due() == 0  # not before its time

    OutgoingMail.objects.update(next_attempt_at=timezone.now())
    assert mail.send_due() == 1
    assert len(django_mail.outbox) == 1


def test_a_mailbox_that_refuses_does_not_stop_the_others(
    organization: Organization, owner: User, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    Membership.objects.create(organization=organization, user=make_user("second@example.com"))
    pass_thresholds(organization, version)
    alerts.mail_due()
    refused = smtplib.SMTPRecipientsRefused({owner.email: (550, b"unknown")})
    monkeypatch.setattr(EmailMessage, "send", failing(refused, owner.email))

    assert mail.send_due() == 1

    assert [message.to for message in django_mail.outbox] == [["second@example.com"]]
    OutgoingMail.objects.filter(sent_at=None).update(
        created_at=timezone.now() - timedelta(days=4), next_attempt_at=timezone.now()
    )
    mail.send_due()
    assert OutgoingMail.objects.filter(given_up_at__isnull=False).count() == 1
    OutgoingMail.objects.update(next_attempt_at=timezone.now())
    assert mail.send_due() == 0


def test_who_dies_between_rows_and_mail_tells_nobody_twice(
    organization: Organization, version: ModelVersion
) -> None:
    pass_thresholds(organization, version)
    alerts.mail_due()
    BudgetAlert.objects.update(mailed_at=None)  # the mark was lost

    alerts.mail_due()
    mail.send_due()

    assert len(django_mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_parallel_senders_send_a_mail_once() -> None:
    users = [make_user() for _ in range(4)]
    mail.queue("test", users, "billing/email/low_balance", {"threshold": 1, "balance": 0})

    def send(_: int) -> int:
        try:
            return mail.send_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        sent = sum(pool.map(send, range(4)))

    assert sent == len(django_mail.outbox) == 4
    assert len({message.extra_headers["Message-ID"] for message in django_mail.outbox}) == 4


# Low balance -------------------------------------------------------------------------------


def test_a_low_balance_is_told_once_until_it_has_been_above_again(
    organization: Organization, owner: User
) -> None:
    alerts.watch_balance(organization, 2 * 10**9, actor=owner)
    assert alerts.check_balances() == 0

    credit.take(organization, 4 * 10**9, external_ref="a", reason="test")
    assert [alerts.check_balances() for _ in range(3)] == [1, 0, 0]
    credit.take(organization, 10**8, external_ref="b", reason="test")
    assert alerts.check_balances() == 0

    credit.grant(organization, 4 * 10**9, external_ref="c", reason="test")
    assert alerts.check_balances() == 0
    credit.take(organization, 4 * 10**9, external_ref="d", reason="test")
    assert alerts.check_balances() == 1

    assert BalanceAlert.objects.count() == 2
    alerts.mail_due()
    mail.send_due()
    [message, _] = django_mail.outbox
    assert message.subject == f"[Mercato] {organization.slug}: the balance is below $2.00"
    assert "$1.00 left" in message.body or "$0.90 left" in message.body


def test_what_is_held_does_not_make_a_balance_low(
    organization: Organization, version: ModelVersion
) -> None:
    alerts.watch_balance(organization, 5 * 10**9)
    reserve(organization, version)

    assert alerts.check_balances() == 0
    alerts.watch_balance(organization, None)
    assert not BalanceWatch.objects.exists()


# Answers that are repeated -------------------------------------------------------------------


def test_old_answers_are_forgotten(organization: Organization) -> None:
    for key in ("old", "new"):
        IdempotentAnswer.objects.create(
            organization=organization, key=key, fingerprint="", status=200, body=""
        )
    IdempotentAnswer.objects.filter(key="old").update(
        created_at=timezone.now() - timedelta(hours=25)
    )

    assert idempotency.forget() == 1
    assert IdempotentAnswer.objects.get().key == "new"
