"""Why an asynchronous prediction has no output: each code is listed in docs/errors.md."""

from __future__ import annotations

FAILURES = {
    "model_error": "The model failed on this input.",
    "platform_error": "The model cannot be loaded at the moment. Nothing was charged.",
    "worker_lost": "The workers died too often while they ran this. Nothing was charged.",
    "deadline_exceeded": "No worker began it in time. Nothing was charged.",
    "hold_expired": "The money set aside had been given back before it ended. Nothing was charged.",
    "canceled": "It was canceled.",
}
