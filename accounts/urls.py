"""Pages and API paths of accounts; the sign-in pages are allauth's."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [path("accounts/", include("allauth.urls"))]

api_urlpatterns: list[URLPattern | URLResolver] = []
