"""What is stored of predictions and batch files, their workers, and where events are sent."""

from __future__ import annotations

from inference.models.batch_files import BatchChunk, BatchFile
from inference.models.limits import LimiterOutage
from inference.models.predictions import Prediction, PredictionBlob
from inference.models.traces import CallTrace
from inference.models.traffic import Canary, Shadow, VersionAlias
from inference.models.webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from inference.models.workers import Placement, Unload, VersionStart, Worker

__all__ = [
    "BatchChunk",
    "BatchFile",
    "CallTrace",
    "Canary",
    "LimiterOutage",
    "Placement",
    "Prediction",
    "PredictionBlob",
    "Shadow",
    "Unload",
    "VersionAlias",
    "VersionStart",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Worker",
]
