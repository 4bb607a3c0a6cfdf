"""`make soak MINUTES=10`: kill parts of the site under load, and prove that nothing was lost."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maas_site.settings")
django.setup()

from tests.soak.site import prove, soaking  # noqa: E402

# What the site promises: it is back by itself, in this many seconds.
PATIENCE = 30.0


def main(minutes: str, seed: str = "") -> int:
    """Run for some minutes; returns 0 if nothing was wrong."""
    number = int(seed) if seed else random.SystemRandom().randrange(10**6)
    print(f"SEED={number}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp") as folder,
        soaking(Path(folder)) as site,
    ):
        returns = site.soak(float(minutes) * 60, number, patience=PATIENCE)
        wrong = prove(site)
        for part, seconds in returns.items():
            print(f"{part}: killed {len(seconds)} times, back after {max(seconds):.1f} s at most")
        told = site.load.told
        print(f"{len(told.answered)} answers, {len(told.keyed)} insisted on, ", end="")
        print(f"{len(told.later)} run later, {len(told.files)} files, ", end="")
        print(f"{len(told.trainings)} trainings; {dict(told.statuses)}")
    print("\n".join(wrong) or "Nothing was lost, and nothing was charged twice.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
