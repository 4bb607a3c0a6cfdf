"""The page of a key's limits."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts import limits as rules
from accounts.errors import InvalidRequestError
from accounts.limit_forms import LimitFields
from accounts.models import ApiKey
from accounts.sessions import ConsoleRequest, maker_required, organization_required
from inference.limits import live


@require_GET
@organization_required
def key_limits(request: ConsoleRequest, key_id: int) -> HttpResponse:
    """Show a key's limits and how much is used; the form is for those who may change them."""
    key = get_object_or_404(ApiKey.objects.visible_to(request.organization), pk=key_id)
    return _page(request, key, LimitFields(initial=LimitFields.values(key)))


@require_GET
@organization_required
def key_limits_live(request: ConsoleRequest, key_id: int) -> HttpResponse:
    """Return the table alone, for a page that asks every few seconds."""
    key = get_object_or_404(ApiKey.objects.visible_to(request.organization), pk=key_id)
    found = live.of(request.organization, key)
    return render(request, "console/_limits.html", {"limits": found, "key": key})


@require_POST
@maker_required
def key_limits_set(request: ConsoleRequest, key_id: int) -> HttpResponse:
    """Set a key's limits."""
    mine = ApiKey.objects.visible_to(request.organization).usable()
    key = get_object_or_404(mine.select_related("organization"), pk=key_id)
    form = LimitFields(request.POST)
    if form.is_valid():
        try:
            changed = rules.set_of_key(key, form.quotas(), actor=request.user)
        except InvalidRequestError as error:
            form.add_error(error.param, _("At most what the organization may."))
        else:
            if changed:
                messages.success(request, _("The limits are set. They bind within five seconds."))
            return redirect("key", key.pk)
    return _page(request, key, form, status=422)


def _page(
    request: ConsoleRequest, key: ApiKey, form: LimitFields, status: int = 200
) -> HttpResponse:
    page = {
        "section": "keys",
        "key": key,
        "form": form,
        "limits": live.of(request.organization, key),
    }
    return render(request, "console/key_limits.html", page, status=status)
