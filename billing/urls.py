"""Where the money pages and their API are."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from billing.api.urls import urlpatterns as api_urlpatterns
from billing.views import balance, keys, stripe_webhook, usage

urlpatterns: list[URLPattern | URLResolver] = [
    path("console/keys", keys.key_list, name="keys"),
    path("console/keys/new", keys.key_create, name="key_create"),
    path("console/keys/<int:key_id>", keys.key, name="key"),
    path("console/keys/<int:key_id>/revoke", keys.key_revoke, name="key_revoke"),
    path("console/usage", usage.usage, name="usage"),
    path("console/usage/<uuid:hold_id>", usage.receipt, name="receipt"),
    path("console/usage.csv", usage.usage_csv, name="usage_csv"),
    path("console/balance", balance.balance, name="balance"),
    path("console/balance/limit", balance.limit_set, name="limit_set"),
    path("stripe/webhook", stripe_webhook.stripe_webhook, name="stripe_webhook"),
]

__all__ = ["api_urlpatterns", "urlpatterns"]
