"""Addresses of inference; the hot paths are served by inference.asgi."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from inference import api, views, webhook_api, webhook_views

urlpatterns: list[URLPattern | URLResolver] = [
    path("models/<slug:owner>/<slug:name>/run", views.run, name="run"),
    path("console/webhooks", webhook_views.webhooks, name="webhooks"),
    path("console/webhooks/new", webhook_views.webhook_create, name="webhook_create"),
    path("console/webhooks/<uuid:endpoint_id>", webhook_views.webhook, name="webhook"),
    path(
        "console/webhooks/<uuid:endpoint_id>/ping", webhook_views.webhook_ping, name="webhook_ping"
    ),
    path(
        "console/webhooks/<uuid:endpoint_id>/rotate",
        webhook_views.webhook_rotate,
        name="webhook_rotate",
    ),
    path(
        "console/webhooks/<uuid:endpoint_id>/switch",
        webhook_views.webhook_switch,
        name="webhook_switch",
    ),
    path(
        "console/webhooks/<uuid:endpoint_id>/delete",
        webhook_views.webhook_delete,
        name="webhook_delete",
    ),
    path(
        "console/webhooks/<uuid:endpoint_id>/deliveries/<uuid:delivery_id>",
        webhook_views.delivery,
        name="webhook_delivery",
    ),
    path(
        "console/webhooks/<uuid:endpoint_id>/deliveries/<uuid:delivery_id>/again",
        webhook_views.webhook_redeliver,
        name="webhook_redeliver",
    ),
]
api_urlpatterns: list[URLPattern | URLResolver] = [
    path("models", api.ModelList.as_view()),
    path("models/<slug:owner>/<slug:name>", api.ModelDetail.as_view()),
    path("webhooks", webhook_api.WebhookList.as_view()),
    path("webhooks/<uuid:endpoint_id>", webhook_api.WebhookDetail.as_view()),
    path("webhooks/<uuid:endpoint_id>/ping", webhook_api.WebhookPing.as_view()),
    path("webhooks/<uuid:endpoint_id>/rotate", webhook_api.WebhookRotate.as_view()),
    path("webhooks/<uuid:endpoint_id>/deliveries", webhook_api.DeliveryList.as_view()),
    path(
        "webhooks/<uuid:endpoint_id>/deliveries/<uuid:delivery_id>/redeliver",
        webhook_api.Redeliver.as_view(),
    ),
]
