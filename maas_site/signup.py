"""What happens when a person joins: a personal organization, with trial credit."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.db import transaction
from django.http import HttpRequest

from accounts import organizations
from accounts.models import Organization, User
from billing import promotions


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth is untyped
    """Hooks of allauth."""

    def confirm_email(self, request: HttpRequest, email_address: Any) -> bool:
        """Confirm an address; the first confirmed one opens the personal organization.

        Not at sign-up: trial credit is for addresses that exist.
        """
        confirmed = bool(super().confirm_email(request, email_address))
        if confirmed:
            welcome(email_address.user)
        return confirmed


def welcome(user: User) -> Organization:
    """Return the person's organization; make it, with trial credit, if there is none."""
    existing = organizations.of_user(user).first()
    if existing is not None:
        return existing
    with transaction.atomic():
        organization = organizations.create_personal(user)
        promotions.grant_trial(organization)
    return organization
