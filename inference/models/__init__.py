"""Predictions that are stored, the workers that run them, and where events are sent."""

from __future__ import annotations

from inference.models.predictions import Prediction
from inference.models.webhooks import WebhookDelivery, WebhookEndpoint
from inference.models.workers import Worker

__all__ = ["Prediction", "WebhookDelivery", "WebhookEndpoint", "Worker"]
