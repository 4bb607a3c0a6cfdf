"""Publishers who have earned something, for tests of what they are paid."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from accounts.models import Organization, User
from billing import connect, earnings, ledger, settlement
from billing.models import PayoutAccount
from billing.money import NANOS
from billing.stripe import client
from catalog.models import ModelVersion
from tests.billing.calls import succeed
from tests.factories import make_organization, make_user, make_version

# What a call costs, and the publisher's part: not a whole number of cents.
PRICE = 20 * NANOS + 123
PART = 16 * NANOS + 98


def earn(version: ModelVersion, *, calls: int = 1, release: bool = True) -> list[UUID]:
    """Let somebody call a model; `release` makes payable what it earned."""
    buyer = make_organization(credit_nanos=1000 * NANOS)
    holds = [succeed(buyer, version) for _ in range(calls)]
    settlement.settle()
    if release:
        earnings.release_due(timezone.now() + timedelta(days=31))
    return holds


def make_seller(*, calls: int = 1, slug: str = "") -> tuple[Organization, ModelVersion]:
    """Make a publisher with something payable, and the model that earned it."""
    version = make_version(
        owner=make_organization(credit_nanos=0, slug=slug, owner=make_user()), row_nanos=PRICE
    )
    if calls:
        earn(version, calls=calls)
    return version.model.owner, version


def onboard(organization: Organization, *, deposit: int = 100_000) -> PayoutAccount:
    """Open the publisher's account at the fake, and put cents on the platform's balance."""
    person = organization.memberships.first()
    actor: User = person.user if person else make_user()
    account = connect.start(organization, country="US", actor=actor)
    client.fake().people.onboard(account.stripe_account)
    if deposit:
        client.fake().people.deposit(deposit)
    return connect.refresh(account)


def owed(organization: Organization) -> int:
    """Return what is payable, in nanos."""
    return -ledger.balance_of(ledger.PAYABLE, organization)


def transferred(organization: Organization) -> int:
    """Return what arrived at the publisher's account and stayed there, in cents."""
    account = PayoutAccount.objects.get(organization=organization)
    found = client.fake().calls("POST /v1/transfers")
    names = {call.params["transfer_group"] for call in found}
    every = [
        transfer
        for name in names
        for transfer in client.gateway().list_transfers(transfer_group=name)
        if transfer.destination == account.stripe_account
    ]
    return sum(each.amount - each.amount_reversed for each in every)
