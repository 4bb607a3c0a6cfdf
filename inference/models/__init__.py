"""Predictions that are stored, and the workers that run them."""

from __future__ import annotations

from inference.models.predictions import Prediction
from inference.models.workers import Worker

__all__ = ["Prediction", "Worker"]
