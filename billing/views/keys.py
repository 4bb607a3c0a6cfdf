"""Keys: what a program uses to act for an organization, with what it may spend."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import keys, limits
from accounts.errors import InvalidRequestError
from accounts.models import ApiKey, Organization
from accounts.sessions import ConsoleRequest, maker_required, organization_required
from billing import budgets, windows
from billing.forms import KeyForm
from billing.models import Budget, SpendLimit, Unit


@require_GET
@organization_required
def key_list(request: ConsoleRequest) -> HttpResponse:
    """Show the organization's keys."""
    return render(request, "console/keys.html", _page(request.organization, KeyForm()))


@require_GET
@organization_required
def key(request: ConsoleRequest, key_id: int) -> HttpResponse:
    """Show one key; here it is revoked, also without JavaScript."""
    found = get_object_or_404(_keys(request.organization), pk=key_id)
    page = {"section": "keys", "key": found, "caps": windows.of_key(request.organization, found)}
    return render(request, "console/key.html", page)


@never_cache
@require_POST
@maker_required
def key_create(request: ConsoleRequest) -> HttpResponse:
    """Make a key and show its secret in this one answer: it is stored nowhere."""
    form = KeyForm(request.POST)
    if form.is_valid():
        try:
            with transaction.atomic():
                made, secret = _make(request, form)
        except InvalidRequestError as error:
            form.add_error(error.param, gettext("At most what the organization may."))
        else:
            page = {"section": "keys", "key": made, "secret": secret}
            return render(request, "console/key_created.html", page)
    page = _page(request.organization, form)
    return render(request, "console/keys.html", page, status=422)


def _make(request: ConsoleRequest, form: KeyForm) -> tuple[ApiKey, str]:
    """Make a key with its caps and limits.

    Raises:
        InvalidRequestError: A limit is above the organization's.
    """
    made, secret = keys.issue(
        request.organization,
        form.cleaned_data["name"],
        scopes=form.cleaned_data["scopes"],
        created_by=request.user,
        expires_at=form.expires_at(),
    )
    limit = form.cleaned_data["monthly_limit"]
    if limit is not None:
        window = SpendLimit.Window.MONTH
        budgets.set_limit(request.organization, window, limit, api_key=made, actor=request.user)
    limits.set_of_key(made, form.quotas(), actor=request.user)
    return made, secret


@require_POST
@maker_required
def key_revoke(request: ConsoleRequest, key_id: int) -> HttpResponse:
    """Revoke a key; a second time changes nothing."""
    mine = ApiKey.objects.visible_to(request.organization)
    keys.revoke(get_object_or_404(mine, pk=key_id), actor=request.user)
    return redirect("keys")


def _page(organization: Organization, form: KeyForm) -> dict[str, Any]:
    found = list(_keys(organization))
    return {
        "section": "keys",
        "form": form,
        "usable": [key for key in found if key.is_usable],
        "ended": [key for key in found if not key.is_usable],
    }


def _keys(organization: Organization) -> QuerySet[ApiKey]:
    """Return the keys with their monthly limit and what is used of it."""
    month = datetime.now(UTC).date().replace(day=1)
    window = SpendLimit.Window.MONTH
    mine = SpendLimit.objects.filter(window=window, unit=Unit.MONEY, amount__isnull=False)
    return ApiKey.objects.visible_to(organization).prefetch_related(
        Prefetch("limits", mine, to_attr="monthly_limits"),
        Prefetch(
            "budgets",
            Budget.objects.filter(window=window, window_start=month, unit=Unit.MONEY),
            to_attr="monthly_budgets",
        ),
    )
