"""Models for text as every site starts with them: prices per token, policy, card, files."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounts.models import Organization
from catalog import prices
from catalog.models import ModelVersion
from tests import factories
from tests.training.results import make_finished
from training import folders, publishing
from training.recipes import execute
from training.recipes.execute import Plan
from training.recipes.hyperparameters import Hyperparameters

pytestmark = pytest.mark.usefixtures("compute_price", "rings", "data_folder")


@pytest.fixture
def mercato(db: None) -> Organization:
    """The organization whose models every site starts with."""
    return factories.make_organization(slug="mercato")


def publish(owner: Organization, recipe: str) -> ModelVersion:
    """Run a recipe as the seed does, and publish what it leaves."""
    job = make_finished(owner, recipe, publish_as=recipe)
    plan = Plan(
        recipe,
        job.data,
        Hyperparameters(**job.hyperparameters),
        [folders.result(job).parent],
        may_ship=True,
    )
    execute.execute(plan, lambda event: None, lambda: "", lambda runtime, path: dict)
    return publishing.publish(job, recipe, is_public=True)


def priced(version: ModelVersion) -> dict[str, tuple[int, int]]:
    price = prices.current(version.model)
    assert price is not None
    return {
        item.dimension: (item.amount_nanos, item.per_quantity) for item in price.components.all()
    }


def test_the_text_model_has_a_price_for_what_it_reads_and_writes(mercato: Organization) -> None:
    version = publish(mercato, "docs-gru")

    assert version.model.task == "text-generation"
    assert priced(version) == {
        "input_token": (20_000_000, 1_000_000),
        "output_token": (100_000_000, 1_000_000),
    }
    # Who hangs up pays for what was written until then; nothing else that fails costs anything.
    assert version.outcome_policy["canceled"] == 100
    assert version.outcome_policy["model_error"] == version.outcome_policy["platform_error"] == 0
    assert version.signature["context"] == 4096
    assert version.latency_us is not None
    assert "SHA-256" in version.model.card_en
    assert "SHA-256" in version.model.card_zh
    assert {item.kind for item in version.artifacts.all()} == {"onnx"}


def test_the_embedder_has_a_price_for_what_it_reads_and_its_tokenizer(
    mercato: Organization,
) -> None:
    version = publish(mercato, "all-minilm-l6-v2")

    assert version.model.task == "sentence-embedding"
    assert priced(version) == {"input_token": (20_000_000, 1_000_000)}
    assert version.outcome_policy["canceled"] == 0
    assert {item.kind for item in version.artifacts.all()} == {"onnx", "tokenizer"}
    assert "Not trained here" in version.model.card_en
    assert version.size_bytes > 80_000_000
    assert Path(version.artifacts.get(kind="tokenizer").path).name == "tokenizer.json"
