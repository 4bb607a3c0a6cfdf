"""Addresses of inference; the hot paths are served by inference.asgi."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from inference import api, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("models/<slug:owner>/<slug:name>/run", views.run, name="run"),
]
api_urlpatterns: list[URLPattern | URLResolver] = [
    path("models", api.ModelList.as_view()),
    path("models/<slug:owner>/<slug:name>", api.ModelDetail.as_view()),
]
