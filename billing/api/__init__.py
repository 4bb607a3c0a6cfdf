"""The API of money: one module per resource, put together in `urls`."""

from __future__ import annotations
