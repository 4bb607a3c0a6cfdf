"""Live figures in the browser: of a model, and of one's own calls."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import organizations
from accounts.models import User
from accounts.sessions import ConsoleRequest, organization_required
from catalog.models import MLModel
from inference import performance
from inference.metrics import live
from inference.performance import span_of


@never_cache
@require_GET
def model_live(request: HttpRequest, owner: str, name: str) -> HttpResponse:
    """Return the part of a model's page that changes."""
    user = request.user
    organization = organizations.of_user(user).first() if isinstance(user, User) else None
    model = get_object_or_404(
        MLModel.objects.visible_to(organization).select_related("owner"),
        owner__slug=owner,
        name=name,
    )
    series = live.read(live.model_series(model.path), span_of(request.GET.get("span")))
    return render(request, "inference/_live.html", {"live": performance.shown(series)})


@require_GET
@organization_required
def performance_page(request: ConsoleRequest) -> HttpResponse:
    """Show how fast an organization's own calls are answered."""
    return render(request, "console/performance.html", _own(request))


@never_cache
@require_GET
@organization_required
def performance_live(request: ConsoleRequest) -> HttpResponse:
    """Return the part of that page that changes."""
    return render(request, "console/_performance.html", _own(request))


def _own(request: ConsoleRequest) -> dict[str, object]:
    span, organization = span_of(request.GET.get("span")), request.organization
    series = live.read(live.organization_series(organization.pk), span)
    return {
        "section": "performance",
        "live": performance.shown(series),
        "models": performance.by_model(span, organization.pk),
        "span": span,
    }
