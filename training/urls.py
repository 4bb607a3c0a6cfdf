"""Addresses of trainings."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from training import api, quote_api, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("console/trainings", views.trainings, name="trainings"),
    path("console/trainings/new", views.training_new, name="training_new"),
    path("console/trainings/estimate", views.training_estimate, name="training_estimate"),
    path("console/trainings/start", views.training_start, name="training_start"),
    path("console/trainings/<uuid:job_id>", views.training, name="training"),
    path("console/trainings/<uuid:job_id>/live", views.training_live, name="training_live"),
    path("console/trainings/<uuid:job_id>/events", views.training_events, name="training_events"),
    path("console/trainings/<uuid:job_id>/cancel", views.training_cancel, name="training_cancel"),
    path(
        "console/trainings/<uuid:job_id>/publish", views.training_publish, name="training_publish"
    ),
]
api_urlpatterns: list[URLPattern | URLResolver] = [
    path("quotes", quote_api.QuoteList.as_view()),
    path("quotes/<uuid:quote_id>", quote_api.QuoteDetail.as_view()),
    path("training-recipes", api.RecipeList.as_view()),
    path("trainings", api.TrainingList.as_view()),
    path("trainings/<uuid:job_id>", api.TrainingDetail.as_view()),
    path("trainings/<uuid:job_id>/cancel", api.TrainingCancel.as_view()),
    path("trainings/<uuid:job_id>/publish", api.TrainingPublish.as_view()),
    path("trainings/<uuid:job_id>/events", api.TrainingEvents.as_view()),
]
