"""The front page, and what a person sees when something is wrong."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_GET
from django.views.i18n import set_language

from accounts import languages
from accounts.models import User
from catalog import listing, snippets

FEATURED = 6


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show what this is, a few models and a call that works."""
    models = listing.featured(FEATURED)
    example = listing.example_of(models)
    context = {
        "models": models,
        "curl": snippets.of(example.version, settings.PUBLIC_URL).curl if example else "",
        "keys_url": reverse("keys"),
    }
    return render(request, "home.html", context)


def language(request: HttpRequest) -> HttpResponseBase:
    """Switch the language; a person who is signed in also gets mail in it."""
    answer = set_language(request)
    if request.method == "POST" and isinstance(request.user, User):
        languages.note(request.user, request.POST.get("language", ""))
    return answer


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that cannot be read."""
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer somebody who may not do this."""
    return render(request, "403.html", status=403)


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form whose token is missing or old."""
    return render(request, "403.html", {"is_csrf": True}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an address that leads nowhere."""
    return render(request, "404.html", status=404)


def failed(request: HttpRequest) -> HttpResponse:
    """Answer when the site itself failed; needs no database and no context processor."""
    context = {"request_id": getattr(request, "request_id", "")}
    return HttpResponse(render_to_string("500.html", context), status=500)
