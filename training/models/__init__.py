"""Training jobs."""

from __future__ import annotations

from training.models.jobs import Job

__all__ = ["Job"]
