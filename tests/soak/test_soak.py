"""Parts of the site are killed at random under load: the two-minute version of `make soak`."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.site import PARTS, prove, soaking


@pytest.mark.once
@pytest.mark.timeout(1500)
def test_nothing_is_lost_or_charged_twice_when_parts_of_the_site_are_killed(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"SEED={seed}")
    with soaking(tmp_path) as site:
        returns = site.soak(120, seed, patience=120)
        wrong = prove(site)

    assert wrong == []
    assert set(returns) == set(PARTS)
    assert all(len(seconds) >= 2 for seconds in returns.values())
    assert site.load.told.trainings
    assert site.load.told.later
    assert site.load.told.files
    assert len(site.load.told.answered) > 100


@pytest.mark.once
def test_make_soak_can_begin(tmp_path: Path) -> None:
    """It runs outside of pytest, which prepares Django for what is imported here."""
    begin = [sys.executable, "-c", "import tests.soak.__main__"]
    subprocess.run(begin, check=True, env={"MERCATO_DATA": str(tmp_path)}, timeout=60)
