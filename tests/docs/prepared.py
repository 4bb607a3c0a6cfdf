"""What has to be there before an example is run, and what it must print.

Most examples need nothing: they are run as a reader would, one after another, and their answers'
ids are known to the next. A new example that cannot be run like that gets a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from billing import promotions
from billing.money import NANOS
from catalog import publishing
from tests import factories
from tests.billing import postpaid_world
from tests.billing.postpaid_world import START, Clock
from tests.docs.world import World, make_line, secret_of
from tests.inference.traffic.conftest import add_version

Variables = dict[str, str]


def _nothing(world: World) -> Variables:
    return {}


@dataclass(frozen=True, slots=True)
class Need:
    """An example that needs something, or whose answer is looked at.

    Attributes:
        page: Its page.
        part: Text that this example alone has on the page.
        prepare: Makes what it needs; returns variables that this example alone sees.
        prints: Regular expressions that are found in what it prints.
    """

    page: str
    part: str
    prepare: Callable[[World], Variables] = _nothing
    prints: tuple[str, ...] = ()


def _publisher(world: World) -> Variables:
    """A key of `me`, the publisher of `me/my-line`."""
    me = factories.make_organization(slug="me")
    make_line(me, "my-line")
    return {"KEY": secret_of(me)}


def _same_publisher(world: World) -> Variables:
    return {"KEY": secret_of(type(world.organization).objects.get(slug="me"))}


def _two_versions(world: World) -> Variables:
    """A key of `acme`, whose model `digits` has two versions."""
    acme = factories.make_organization(slug="acme")
    first = factories.make_version(owner=acme, name="digits")
    publishing.pin(first.model, first, actor=None)
    add_version(first, 2)
    return {"KEY": secret_of(acme)}


def _same_versions(world: World) -> Variables:
    return {"KEY": secret_of(type(world.organization).objects.get(slug="acme"))}


def _earner(world: World) -> Variables:
    """A key of `lab`, the publisher of `lab/digits`."""
    lab = factories.make_organization(slug="lab", credit_nanos=0)
    factories.make_version(owner=lab, name="digits")
    return {"KEY": secret_of(lab)}


def _debtor(world: World) -> Variables:
    """A key of somebody whose January was invoiced."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        payer = postpaid_world.make_postpaid(slug="payer", card=False)
        version = factories.make_version(name="billed")
        postpaid_world.use(payer, version, START + timedelta(hours=1), rows=61_728)
        postpaid_world.close_month(clock, payer)
    return {"KEY": secret_of(payer)}


def _code(world: World) -> Variables:
    return {"CODE": promotions.make_code(10 * NANOS, actor=factories.make_user())[1]}


def _second_training(world: World) -> Variables:
    """One that has not ended: the one before it has been watched to its end."""
    answer = world.site.client.post(
        "/v1/trainings",
        json={"recipe": "linear-regression", "hyperparameters": {"epochs": 150}},
        headers={"Authorization": f"Bearer {world.variables['KEY']}"},
    )
    return {"ID": answer.json()["id"]}


def _batch_has_ended(world: World) -> Variables:
    def status() -> str:
        found: str = world.site.client.get(
            f"/v1/batches/{world.variables['ID']}",
            headers={"Authorization": f"Bearer {world.variables['KEY']}"},
        ).json()["status"]
        return found

    world.site.wait_until(lambda: status() == "succeeded", seconds=60)
    return {}


NEEDS = [
    Need("README.md", "KEY=$(awk", prints=(r'"output":{"y":\[8.0\]}',)),
    Need("README.md", "/v1/balance", prints=(r'"available":"4\.9',)),
    Need("api.md", '"input": {"x": 2}', prints=(r'"output":{"y":\[8.0\]}',)),
    Need("api.md", "-F image=@seven.png", prints=('"label":"7"',)),
    Need("api.md", "@seven.npy", prints=('"label":"7".*"label":"7"',)),
    Need("api.md", '"instances": [1, 2, 3]', prints=(r"\[\[5.0\],\[8.0\],\[11.0\]\]",)),
    Need("api.md", '"inputs": {"x": [[1], [2]]}', prints=(r"\[\[5.0\],\[8.0\]\]",)),
    Need("api.md", "tritonclient", prints=(r"0\.00002\n",)),
    Need("api.md", "linear-regression/infer", prints=(r'"data":\[5.0,8.0\]',)),
    Need("api.md", "my-line/prices -H", _publisher, ('"status":"approved"',)),
    Need("api.md", "my-line/prices/changes", _same_publisher),
    Need("api.md", "trainings/$ID/events", prints=("event: end",)),
    Need("api.md", "trainings/$ID/cancel", _second_training, ('"cancel_requested":true',)),
    Need("api.md", "trainings/$ID/publish", prints=("reader/my-line:1",)),
    Need("api.md", "/v1/redemptions", _code, ('"amount":"10"',)),
    Need("api.md", "model=lab/digits", _earner),
    Need("api.md", "INV-2026-000001.pdf", _debtor),
    Need("api.md", "digits/canary", _two_versions, ('"percent":5',)),
    Need("api.md", "digits/shadow", _same_versions),
    Need("api.md", "aliases/next", _same_versions),
    Need("api.md", "/v1/webhooks", prints=("whsec_",)),
    Need("predictions.md", 'respond-async" \\\n  -F', prints=('"status":"queued"',)),
    Need("predictions.md", '"Prefer: wait=10"', prints=('"status":"succeeded"',)),
    Need(
        "predictions.md",
        "mercato/docs-gru",
        prints=('"finish_reason":"length"', r'"input_token":9,"output_token":60'),
    ),
    Need("predictions.md", "all-minilm", prints=('"status":"queued"',)),
    Need("predictions.md", "ID=$(python", prints=('"status":"queued"',)),
    Need("predictions.md", "$ID/events", prints=("event: end",)),
    Need("batches.md", "/start", prints=('"status":"(checking|processing|succeeded)"',)),
    Need("batches.md", "prompts.jsonl", prints=('"status":"checking"',)),
    Need("batches.md", "texts.csv", prints=('"status":"checking"',)),
    Need(
        "batches.md",
        "/results",
        _batch_has_ended,
        (r"(?m)^row,line,id,status,y", r"(?m)^1,2,a,succeeded,6\.5"),
    ),
]


def need_of(page: str, example: str) -> Need:
    """Return what an example needs."""
    found = [each for each in NEEDS if each.page == page and each.part in example]
    return found[0] if found else Need(page, "")
