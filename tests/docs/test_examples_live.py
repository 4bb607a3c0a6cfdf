"""Every example of the documents is run as it is printed, against a running site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import examples
from tests.docs.prepared import NEEDS, need_of
from tests.docs.world import World
from tests.live import Site


@pytest.fixture
def world(site: Site, tmp_path: Path, fake_stripe: object) -> World:
    site.start_jobs()
    return World(site, tmp_path)


def run(world: World, example: str, **variables: str) -> str:
    """Run an example, and return what it printed.

    Raises:
        AssertionError: It failed, or an answer was not a success.
    """
    done = subprocess.run(
        examples.command(example, sys.executable, world.site.url),
        cwd=world.folder,
        env=os.environ | world.variables | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}\n{world.site.log_tail()}"
    return done.stdout


@pytest.mark.timeout(900)
def test_the_examples_do_what_their_pages_say(world: World) -> None:
    """All with the same models: a gateway remembers for seconds what a name means."""
    for page in examples.PAGES:
        for example in examples.of(page):
            do(world, page, example)


def do(world: World, page: Path, example: str) -> None:
    """Run an example with what it needs, and look at what it prints."""
    need = need_of(page.name, example)
    own = need.prepare(world)
    printed = run(world, example, **own)
    for wanted in need.prints:
        assert re.search(wanted, printed, flags=re.DOTALL), f"{example}\n{printed}"
    for answer in () if own else examples.answers(printed):
        world.learn(answer)


def test_whatever_is_prepared_is_for_one_example() -> None:
    """A line that fits no example any longer, or two, would be kept without a use."""
    for need in NEEDS:
        page = next(page for page in examples.PAGES if page.name == need.page)
        found = [each for each in examples.of(page) if need.part in each]
        assert len(found) == 1, (need, found)


@pytest.mark.parametrize("page", examples.PAGES, ids=lambda page: page.name)
def test_examples_are_blocks(page: Path) -> None:
    """What is not in a block is not run."""
    assert examples.outside_of_blocks(page) == []
