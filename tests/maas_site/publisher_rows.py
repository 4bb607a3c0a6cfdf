"""Rows of publishers and of corrections, for the console's pages."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from uuid import uuid4

from django.utils import timezone

from accounts.models import Organization, User
from billing import adjustments, charge_refunds, ledger
from billing.ids import uuid7
from billing.models import Hold, Payout, PayoutAccount

_NUMBERS = count(1)
_CENT_NANOS = 10_000_000


def make_publishing(organization: Organization, hold: Hold) -> None:
    """Make a row of everything that publishers and corrections have, but earnings."""
    actor = User.objects.create_user(f"corrector-{next(_NUMBERS)}@example.com")
    now = timezone.now()
    charge_refunds.refund(hold.pk, 100, external_ref=f"test:{hold.pk}", reason="Test", actor=actor)
    assert hold.model_version is not None
    charge_refunds.start_run(
        uuid4(),
        hold.model_version,
        now - timedelta(days=2),
        now - timedelta(days=1),
        reason="Test",
        actor=actor,
    )
    adjustments.propose(
        uuid4(),
        ledger.account(ledger.SUSPENSE),
        ledger.account(ledger.FEES),
        1,
        reason="Test",
        actor=actor,
    )
    make_payout(organization)


def make_payout(organization: Organization) -> Payout:
    """Make a payout of one cent that is under way."""
    account = PayoutAccount.objects.create(
        organization=organization,
        stripe_account=f"acct_{next(_NUMBERS)}",
        payouts_enabled=True,
    )
    payout_id = uuid7()
    booked, _ = ledger.post(
        "payout",
        str(payout_id),
        {
            ledger.account(ledger.PAYABLE, organization): _CENT_NANOS,
            ledger.account(ledger.CLEARING): -_CENT_NANOS,
        },
        organization=organization,
    )
    return Payout.objects.create(
        id=payout_id,
        organization=organization,
        period=timezone.now().date().replace(day=1),
        amount_nanos=_CENT_NANOS,
        amount_minor=1,
        stripe_account=account.stripe_account,
        ledger_transaction=booked,
    )
