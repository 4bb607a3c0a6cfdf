"""The examples of docs/api.md run as they are printed, with OpenAI's own package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from billing.models import Hold, UsageEvent
from tests import factories
from tests.inference.embedders import WIDTH, make_embedder
from tests.inference.writers import make_writer
from tests.live import Site

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_printed_examples_work(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    mercato = factories.make_organization(slug="mercato", credit_nanos=0)
    make_writer(mercato, name="docs-gru")
    make_embedder(mercato, name="all-minilm-l6-v2")
    _, secret = factories.make_key(factories.make_organization())
    section = PAGE.read_text(encoding="utf-8").partition("## Use the OpenAI client")[2]
    examples = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], flags=re.DOTALL)
    assert examples

    for example in examples:
        # Our own page, as a reader would run it.
        exec(example, {"URL": site.url, "KEY": secret})  # noqa: S102

    printed = capsys.readouterr().out
    assert "mercato/docs-gru" in printed
    assert "completion_tokens=120" in printed
    # Words that the small vocabulary of this test does not know count as well.
    assert re.search(rf"^{WIDTH} \d+$", printed, flags=re.MULTILINE)
    assert set(Hold.objects.values_list("state", flat=True)) == {"captured"}
    assert UsageEvent.objects.count() == 3
