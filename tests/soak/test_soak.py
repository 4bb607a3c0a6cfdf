"""Parts of the site are killed at random under load: the two-minute version of `make soak`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.soak.site import PARTS, prove, soaking


@pytest.mark.once
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_charged_twice_when_parts_of_the_site_are_killed(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"SEED={seed}")
    with soaking(tmp_path) as site:
        returns = site.soak(60, seed, patience=120)
        wrong = prove(site)

    assert wrong == []
    assert set(returns) == set(PARTS)
    assert all(len(seconds) >= 2 for seconds in returns.values())
    assert site.load.told.trainings
    assert site.load.told.later
    assert site.load.told.files
    assert len(site.load.told.answered) > 100
