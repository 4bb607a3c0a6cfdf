"""Addresses of inference; the hot paths are served by inference.asgi."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from inference import (
    api,
    live_views,
    open_inference_api,
    prediction_api,
    prediction_views,
    serving_api,
    stats_api,
    traces_api,
    views,
    webhook_api,
    webhook_views,
    writing_views,
)
from inference.batch_files import urls as batch_urls
from inference.limits import api as limits_api
from inference.limits import views as limits_views
from inference.traffic import api as traffic_api
from inference.traffic import views as traffic_views

urlpatterns: list[URLPattern | URLResolver] = [
    path("models/<slug:owner>/<slug:name>/run", views.run, name="run"),
    path("models/<slug:owner>/<slug:name>/write", writing_views.write, name="write"),
    *batch_urls.urlpatterns,
    path("models/<slug:owner>/<slug:name>/live", live_views.model_live, name="model_live"),
    path("console/performance", live_views.performance_page, name="performance"),
    path("console/performance/live", live_views.performance_live, name="performance_live"),
    path("console/predictions", prediction_views.predictions, name="predictions"),
    path("console/predictions/live", prediction_views.predictions_live, name="predictions_live"),
    path(
        "console/predictions/events", prediction_views.predictions_events, name="predictions_events"
    ),
    path(
        "console/predictions/<uuid:prediction_id>", prediction_views.prediction, name="prediction"
    ),
    path(
        "console/predictions/<uuid:prediction_id>/live",
        prediction_views.prediction_live,
        name="prediction_live",
    ),
    path(
        "console/predictions/<uuid:prediction_id>/events",
        prediction_views.prediction_events,
        name="prediction_events",
    ),
    path(
        "console/predictions/<uuid:prediction_id>/cancel",
        prediction_views.prediction_cancel,
        name="prediction_cancel",
    ),
    path("models/<slug:owner>/<slug:name>/start", views.start, name="start"),
    path("console/keys/<int:key_id>/limits", limits_views.key_limits, name="key_limits"),
    path(
        "console/keys/<int:key_id>/limits/live",
        limits_views.key_limits_live,
        name="key_limits_live",
    ),
    path(
        "console/keys/<int:key_id>/limits/set", limits_views.key_limits_set, name="key_limits_set"
    ),
    path("console/traffic", traffic_views.traffic_list, name="traffic"),
    path("console/traffic/<slug:name>", traffic_views.traffic_model, name="traffic_model"),
    path("console/traffic/<slug:name>/canary", traffic_views.canary_set, name="canary_set"),
    path("console/traffic/<slug:name>/end", traffic_views.canary_end, name="canary_end"),
    path("console/traffic/<slug:name>/shadow", traffic_views.shadow_set, name="shadow_set"),
    path("console/traffic/<slug:name>/shadow/live", traffic_views.shadow_live, name="shadow_live"),
    path("console/traffic/<slug:name>/shadow/stop", traffic_views.shadow_stop, name="shadow_stop"),
    path("console/traffic/<slug:name>/alias", traffic_views.alias_set, name="alias_set"),
    path(
        "console/traffic/<slug:name>/alias/remove", traffic_views.alias_remove, name="alias_remove"
    ),
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
    path("models/<slug:owner>/<slug:name>/traffic", traffic_api.Traffic.as_view()),
    path("models/<slug:owner>/<slug:name>/shadow", traffic_api.ShadowView.as_view()),
    path("models/<slug:owner>/<slug:name>/canary", traffic_api.CanaryView.as_view()),
    path("models/<slug:owner>/<slug:name>/canary/promote", traffic_api.CanaryPromote.as_view()),
    path("models/<slug:owner>/<slug:name>/aliases/<slug:alias>", traffic_api.Alias.as_view()),
    path("limits", limits_api.Limits.as_view()),
    *batch_urls.api_urlpatterns,
    path("models/<slug:owner>/<slug:name>/metadata", serving_api.Metadata.as_view()),
    path(
        "models/<slug:owner>/<slug:name>/versions/<int:number>", serving_api.VersionStatus.as_view()
    ),
    path(
        "models/<slug:owner>/<slug:name>/versions/<int:number>/metadata",
        serving_api.VersionMetadata.as_view(),
    ),
    path("models/<slug:owner>/<slug:name>/stats", stats_api.ModelStats.as_view()),
    path("traces/<str:reference>", traces_api.TraceDetail.as_view()),
    path("predictions", prediction_api.PredictionList.as_view()),
    path("predictions/<uuid:prediction_id>", prediction_api.PredictionDetail.as_view()),
    path("predictions/<uuid:prediction_id>/cancel", prediction_api.PredictionCancel.as_view()),
    path("predictions/<uuid:prediction_id>/events", prediction_api.PredictionEvents.as_view()),
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
open_inference_urlpatterns: list[URLPattern | URLResolver] = [
    path("v2", open_inference_api.Server.as_view()),
    path("v2/models/<slug:owner>.<slug:name>", open_inference_api.ModelMetadata.as_view()),
    path("v2/models/<slug:owner>.<slug:name>/ready", open_inference_api.ModelReady.as_view()),
    path(
        "v2/models/<slug:owner>.<slug:name>/versions/<int:number>",
        open_inference_api.VersionMetadata.as_view(),
    ),
    path(
        "v2/models/<slug:owner>.<slug:name>/versions/<int:number>/ready",
        open_inference_api.VersionReady.as_view(),
    ),
]
