"""Webhooks out: which events there are, who is told, and how it is sent until it has arrived."""

from __future__ import annotations
