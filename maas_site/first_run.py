"""What a new site starts with; every step may be repeated, whatever the last one reached."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from accounts import audit, keys, organizations
from accounts.models import ApiKey, AuditEntry, Membership, Organization, User
from billing import credit, promotions, shares
from billing.money import NANOS
from catalog import prices
from catalog.errors import NoPriceError

OPERATOR = "operator@mercato.local"
PUBLISHER = "mercato"
DEMO = "demo"
KEY_NAME = "first key"
FILE = settings.DATA / "first-run.txt"
# $0.00005 per second of compute.
TRAINING_PRICE = {"compute_ms": (50_000, 1000)}
PUBLISHER_CREDIT_NANOS = 100 * NANOS
# Written last: what it vouches for is never made again, even if an operator removed it.
_DONE = "site.first_run"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is shown once."""

    email: str
    password: str
    api_key: str


def seed() -> Credentials | None:
    """Make what the site needs; returns the credentials if this was its first run."""
    publisher = _organization(PUBLISHER, "Mercato")
    shares.current()
    _training_price()
    credit.grant(
        publisher,
        PUBLISHER_CREDIT_NANOS,
        external_ref=f"seed:{publisher.pk}",
        reason="Pays for training the first models",
    )
    if AuditEntry.objects.filter(action=_DONE).exists():
        return None
    made = _open()
    write(made)
    audit.record(None, _DONE, publisher, organization=publisher)
    return made


def _organization(slug: str, name: str) -> Organization:
    found = Organization.objects.filter(slug=slug).first()
    return found or organizations.create(slug, name)


def _training_price() -> None:
    try:
        prices.current_sku("training.cpu")
    except NoPriceError:
        prices.add(sku="training.cpu", components=TRAINING_PRICE)


@transaction.atomic
def _open() -> Credentials:
    """Make the operator and the organization `demo`, with secrets that nobody has seen yet."""
    password = secrets.token_urlsafe(12)
    operator = User.objects.filter(email=OPERATOR).first()
    if operator is None:
        operator = User.objects.create_superuser(OPERATOR, password)
    else:
        # An earlier first run ended before its password was written down.
        operator.set_password(password)
        operator.save(update_fields=["password"])
    EmailAddress.objects.update_or_create(
        user=operator, email=OPERATOR, defaults={"verified": True, "primary": True}
    )
    demo = _organization(DEMO, "Demo")
    Membership.objects.get_or_create(organization=demo, user=operator)
    promotions.grant_trial(demo)
    for lost in ApiKey.objects.usable().filter(organization=demo, name=KEY_NAME):
        keys.revoke(lost, actor=None)
    _, secret = keys.issue(demo, KEY_NAME)
    return Credentials(OPERATOR, password, secret)


def text(made: Credentials) -> str:
    """Return what is printed and kept for whoever has started the site."""
    return (
        f"Site      {settings.PUBLIC_URL}\n"
        f"Operator  {made.email}\n"
        f"Password  {made.password}\n"
        f"API key   {made.api_key}  (organization {DEMO})\n"
    )


def write(made: Credentials) -> None:
    """Write the credentials to the data folder, readable by its owner only."""
    partial = Path(f"{FILE}.partial")
    handle = os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text(made))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(FILE)
