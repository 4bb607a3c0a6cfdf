"""A signed-in person → the organization they act for, and what their role lets them do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from accounts.models import Membership, Organization, User

# Who may make keys, set limits and start what costs money; a viewer only looks.
MAKERS = frozenset({Membership.Role.OWNER, Membership.Role.DEVELOPER})

# Who decides about money: budgets, cards, payouts.
PAYERS = frozenset({Membership.Role.OWNER})

P = ParamSpec("P")


class ConsoleRequest(HttpRequest):
    """What a request is once `organization_required` let it in; never made, only cast to."""

    user: User
    organization: Organization
    may_change: bool
    may_pay: bool


View = Callable[Concatenate[ConsoleRequest, P], HttpResponse]
StreamingView = Callable[Concatenate[ConsoleRequest, P], Coroutine[Any, Any, HttpResponseBase]]


def organization_required(view: View[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Let members of an organization in; a person without one is told what is missing."""

    @login_required
    @wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        membership = _memberships(cast(User, request.user)).first()
        if membership is None:
            return render(request, "console/no_organization.html", status=403)
        return view(_admit(request, membership), *args, **kwargs)

    return guarded


def maker_required(view: View[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Let owners and developers in; a viewer is told that the role does not allow it."""

    @organization_required
    @wraps(view)
    def guarded(request: ConsoleRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if not request.may_change:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def owner_required(view: View[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Let owners in; others are told that the role does not allow it."""

    @organization_required
    @wraps(view)
    def guarded(request: ConsoleRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if not request.may_pay:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def organization_required_async(
    view: StreamingView[P],
) -> Callable[Concatenate[HttpRequest, P], Coroutine[Any, Any, HttpResponseBase]]:
    """Do the same as `organization_required` for a view that streams."""

    @wraps(view)
    async def guarded(
        request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs
    ) -> HttpResponseBase:
        user = await request.auser()
        if not isinstance(user, User):
            return redirect_to_login(request.get_full_path())
        membership = await _memberships(user).afirst()
        if membership is None:
            raise PermissionDenied
        return await view(_admit(request, membership), *args, **kwargs)

    return guarded


def _memberships(user: User) -> QuerySet[Membership]:
    """Return a person's memberships in the order of `organizations.of_user`."""
    return (
        Membership.objects.filter(user=user)
        .select_related("organization")
        .order_by("-organization__is_personal", "organization__slug")
    )


def _admit(request: HttpRequest, membership: Membership) -> ConsoleRequest:
    member = cast(ConsoleRequest, request)
    member.organization = membership.organization
    member.may_change = membership.role in MAKERS
    member.may_pay = membership.role in PAYERS
    return member
