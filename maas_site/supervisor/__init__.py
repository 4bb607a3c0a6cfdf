"""`make up`: one foreground process that starts, watches and stops all the others.

Standard library only, and no Django in its own process: it must live when the site does not.
"""

from __future__ import annotations
