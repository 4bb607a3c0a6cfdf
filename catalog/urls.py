"""Addresses of the catalogue."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from catalog import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("models", views.models, name="models"),
    path("models/<slug:owner>/<slug:name>", views.model, name="model"),
]
api_urlpatterns: list[URLPattern | URLResolver] = []
