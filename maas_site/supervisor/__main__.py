"""Command line of the supervisor."""

from __future__ import annotations

import sys

from maas_site.supervisor.console import Console
from maas_site.supervisor.run import main

if __name__ == "__main__":
    sys.exit(main(Console(sys.stdout)))
