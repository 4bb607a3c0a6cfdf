"""Where each app is mounted."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

import accounts.urls
import billing.urls
import catalog.urls
import inference.urls
import training.urls
from maas_site import api, console, dev_mail, health, numbers, performance, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.home, name="home"),
    path("language", views.language, name="set_language"),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", numbers.metrics),
    path("v2/health/live", health.v2_live),
    path("v2/health/ready", health.v2_ready),
    path("console", console.overview, name="console"),
    path("dev/mail", dev_mail.dev_mail, name="dev_mail"),
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("docs/api", SpectacularSwaggerView.as_view(url_name="openapi"), name="api_docs"),
    path(
        "admin/performance",
        admin.site.admin_view(performance.operator_performance),
        name="operator_performance",
    ),
    path(
        "admin/performance/live",
        admin.site.admin_view(performance.operator_performance_live),
        name="operator_performance_live",
    ),
    path("admin/", admin.site.urls),
    *accounts.urls.urlpatterns,
    *catalog.urls.urlpatterns,
    *billing.urls.urlpatterns,
    *inference.urls.urlpatterns,
    *training.urls.urlpatterns,
    *inference.urls.open_inference_urlpatterns,
    path(
        "v1/",
        include(
            accounts.urls.api_urlpatterns
            + catalog.urls.api_urlpatterns
            + billing.urls.api_urlpatterns
            + inference.urls.api_urlpatterns
            + training.urls.api_urlpatterns
        ),
    ),
]
handler400 = api.api_or(views.bad_request, "invalid_request")
handler403 = api.api_or(views.forbidden, "permission_denied")
handler404 = api.api_or(views.not_found, "not_found")
handler500 = api.api_or(views.failed, "internal_error")
