"""Where the API of money is; included under /v1."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from billing.api import balance, usage

urlpatterns: list[URLPattern | URLResolver] = [
    path("balance", balance.Balance.as_view()),
    path("usage", usage.Usage.as_view()),
]
