"""The console's money pages: keys, usage, balance."""

from __future__ import annotations
