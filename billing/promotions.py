"""Redeem codes and trial credit: promotional credit that the platform pays for."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import credit, wallets
from billing.errors import OrganizationFrozenError, RedeemCodeError, TooManyGuessesError
from billing.models import CreditGrant, LedgerTransaction, RedeemCode, Redemption

# Wrong codes that an organization may try within an hour.
GUESSES = 10
_HOUR_SECONDS = 3600
_BYTES = 32
_GROUP = 4
_SEPARATORS = re.compile(r"[\s-]+")


def make_code(
    nanos: int,
    *,
    actor: User,
    max_redemptions: int = 1,
    expires_at: datetime | None = None,
    credit_days: int | None = None,
    note: str = "",
) -> tuple[RedeemCode, str]:
    """Make a code; the text is shown once and stored nowhere.

    Args:
        nanos: What each organization gets that redeems it.
        max_redemptions: How many may.
        expires_at: Until when.
        credit_days: How long the credit lasts from then on; None: for ever.
        note: What it is for.

    Returns:
        The row, and the code: 256 random bits in groups of letters and digits.
    """
    text = base64.b32encode(secrets.token_bytes(_BYTES)).decode().rstrip("=")
    with transaction.atomic():
        made = RedeemCode.objects.create(
            digest=digest(text),
            last4=text[-4:],
            amount_nanos=nanos,
            max_redemptions=max_redemptions,
            expires_at=expires_at,
            credit_days=credit_days,
            note=note,
            created_by=actor,
        )
        audit.record(
            actor,
            "redeem_code.made",
            made,
            reason=note,
            details={"nanos": nanos, "redemptions": max_redemptions},
        )
    return made, "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def digest(text: str) -> str:
    """Return what is stored of a code; spaces, hyphens and case do not matter."""
    plain = _SEPARATORS.sub("", text).upper()
    return hashlib.sha256(plain.encode()).hexdigest()


def disable(code: RedeemCode, *, actor: User, reason: str) -> bool:
    """Let a code be redeemed no more; False if it was disabled already."""
    with transaction.atomic():
        changed = RedeemCode.objects.filter(pk=code.pk, is_disabled=False).update(is_disabled=True)
        if changed:
            audit.record(actor, "redeem_code.disabled", code, reason=reason)
    return bool(changed)


def redeem(organization: Organization, text: str, *, actor: User | None = None) -> Redemption:
    """Give an organization the credit of a code, once.

    Raises:
        RedeemCodeError: The code cannot be redeemed by this organization.
        TooManyGuessesError: Too many that do not exist were tried.
        OrganizationFrozenError: The organization may not spend.
    """
    if organization.is_frozen:
        raise OrganizationFrozenError("The organization is frozen: ask the operator.")
    _require_guesses(organization)
    code = RedeemCode.objects.filter(digest=digest(text), is_disabled=False).first()
    if code is None:
        _count_guess(organization)
        raise RedeemCodeError("There is no such code.", param="code")
    with transaction.atomic():
        wallets.lock(organization)
        if Redemption.objects.filter(code=code, organization=organization).exists():
            raise RedeemCodeError("The organization has redeemed this code.", param="code")
        _use(code)
        now = timezone.now()
        grant, _ = wallets.add_grant(
            organization,
            code.amount_nanos,
            kind="redemption",
            external_ref=f"{code.pk}:{organization.pk}",
            reason=f"Code …{code.last4}",
            actor=actor,
            expires_at=now + timedelta(days=code.credit_days) if code.credit_days else None,
        )
        made = Redemption.objects.create(code=code, organization=organization, grant=grant)
        audit.record(
            actor,
            "redeem_code.redeemed",
            code,
            organization=organization,
            details={"nanos": code.amount_nanos},
        )
    return made


def _use(code: RedeemCode) -> None:
    """Count a redemption, if there is one left."""
    usable = RedeemCode.objects.filter(
        pk=code.pk, is_disabled=False, redemptions__lt=F("max_redemptions")
    )
    if code.expires_at is not None and code.expires_at <= timezone.now():
        raise RedeemCodeError("The code has expired.", param="code")
    if not usable.update(redemptions=F("redemptions") + 1):
        raise RedeemCodeError("The code has been used up.", param="code")


def _guesses(organization: Organization) -> str:
    return f"redeem:{organization.pk}"


def _require_guesses(organization: Organization) -> None:
    if (cache.get(_guesses(organization)) or 0) >= GUESSES:
        raise TooManyGuessesError("Too many codes that do not exist. Try again in an hour.")


def _count_guess(organization: Organization) -> None:
    name = _guesses(organization)
    cache.add(name, 0, _HOUR_SECONDS)
    try:
        cache.incr(name)
    except ValueError:
        # It ran out between the two lines.
        cache.set(name, 1, _HOUR_SECONDS)


def grant_trial(organization: Organization) -> LedgerTransaction | None:
    """Give the credit with which everybody starts, once; None if the site gives none."""
    if not settings.TRIAL_CREDIT_NANOS:
        return None
    days = settings.TRIAL_CREDIT_DAYS
    return credit.grant(
        organization,
        settings.TRIAL_CREDIT_NANOS,
        external_ref=f"trial:{organization.pk}",
        kind="trial_credit",
        reason="Trial credit",
        expires_at=timezone.now() + timedelta(days=days) if days else None,
    )


def grants_of(organization: Organization) -> list[CreditGrant]:
    """Return what is left of promotional credit, in the order in which it is used."""
    return list(CreditGrant.objects.filter(organization=organization, remaining_nanos__gt=0))
