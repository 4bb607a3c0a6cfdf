"""The catalogue and a model's page."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET

from accounts import organizations
from accounts.models import Organization, User
from catalog import listing, playground, prices, snippets
from catalog.listing import Wanted
from catalog.models import MLModel, ModelVersion

PER_PAGE = 24
TABS = ("playground", "api", "readme", "performance", "versions")


@require_GET
def models(request: HttpRequest) -> HttpResponse:
    """List the models that match; htmx gets only the part that changes."""
    organization = _organization(request)
    wanted = Wanted(
        query=request.GET.get("q", "").strip()[:200],
        task=request.GET.get("task", "")[:40],
        framework=request.GET.get("framework", "")[:40],
    )
    page = Paginator(listing.find(organization, wanted), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "wanted": wanted,
        "page": page,
        "entries": listing.entries(page.object_list),
        "tasks": listing.tasks(organization, wanted),
        "frameworks": listing.frameworks(organization, wanted),
    }
    is_part = request.headers.get("HX-Request") == "true"
    response = render(
        request, "catalog/_results.html" if is_part else "catalog/models.html", context
    )
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_GET
def model(request: HttpRequest, owner: str, name: str) -> HttpResponse:
    """Show a model: try it, call it, read about it, see its versions."""
    organization = _organization(request)
    found = get_object_or_404(
        MLModel.objects.visible_to(organization).select_related("owner", "current_version"),
        owner__slug=owner,
        name=name,
    )
    versions = listing.versions(found, organization)
    version = _chosen(found, versions, request.GET.get("version"))
    tab = request.GET.get("tab", "")
    context: dict[str, Any] = {
        "model": found,
        "version": version,
        "versions": versions,
        "price": prices.current(found),
        "next_price": next(iter(prices.upcoming(found)), None),
        "tab": tab if tab in TABS else TABS[0],
    }
    if version is not None:
        context |= _tab_context(context["tab"], version)
    return render(request, "catalog/model.html", context)


def _tab_context(tab: str, version: ModelVersion) -> dict[str, Any]:
    if tab == "playground":
        return {"setup": playground.setup(version, settings.PUBLIC_URL)}
    if tab == "api":
        return {"snippets": snippets.of(version, settings.PUBLIC_URL)}
    return {"artifacts": list(version.artifacts.all())}


def _chosen(
    model: MLModel, versions: list[ModelVersion], number: str | None
) -> ModelVersion | None:
    """Return the version asked for, or the current one, or the newest.

    Raises:
        Http404: The model has no such version.
    """
    wanted = number or (str(model.current_version.number) if model.current_version else None)
    for version in versions:
        if wanted is None or str(version.number) == wanted:
            return version
    if number:
        raise Http404
    return None


def _organization(request: HttpRequest) -> Organization | None:
    user = request.user
    return organizations.of_user(user).first() if isinstance(user, User) else None
