"""Addresses of batch files."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from inference.batch_files import api, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("console/batches", views.batches, name="batches"),
    path("console/batches/new", views.batch_new, name="batch_new"),
    path("console/batches/<uuid:batch_id>", views.batch, name="batch"),
    path("console/batches/<uuid:batch_id>/live", views.batch_live, name="batch_live"),
    path("console/batches/<uuid:batch_id>/events", views.batch_events, name="batch_events"),
    path("console/batches/<uuid:batch_id>/results", views.batch_results, name="batch_results"),
    path("console/batches/<uuid:batch_id>/start", views.batch_start, name="batch_start"),
    path("console/batches/<uuid:batch_id>/cancel", views.batch_cancel, name="batch_cancel"),
    path("console/batches/<uuid:batch_id>/delete", views.batch_delete, name="batch_delete"),
]
api_urlpatterns: list[URLPattern | URLResolver] = [
    path("batches", api.BatchList.as_view()),
    path("batches/<uuid:batch_id>", api.BatchDetail.as_view()),
    path("batches/<uuid:batch_id>/start", api.BatchStart.as_view()),
    path("batches/<uuid:batch_id>/cancel", api.BatchCancel.as_view()),
    path("batches/<uuid:batch_id>/results", api.BatchResults.as_view()),
    path("batches/<uuid:batch_id>/events", api.BatchEvents.as_view()),
]
