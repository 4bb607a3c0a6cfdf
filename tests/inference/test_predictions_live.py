"""Predictions through the HTTP door: real gateway, worker, broker, database."""

from __future__ import annotations

import json

from billing import budgets
from billing.money import parse
from tests import factories
from tests.live import Site


def test_a_prediction_is_answered_and_its_exact_cost_leaves_the_balance(site: Site) -> None:
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    version = factories.make_version()

    response = site.predict(secret, factories.body(version, digit=7))

    assert response.status_code == 200, response.text + site.log_tail()
    answer = response.json()
    assert answer["output"]["label"] == "7"
    assert answer["model"] == version.path
    assert response.headers["Mercato-Cost"] == answer["cost"]["amount"] == "0.00002"
    site.settle()
    assert budgets.wallet(organization).available == parse("5") - parse("0.00002")


def test_the_tensorflow_serving_form_gives_bare_predictions(site: Site) -> None:
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    version = factories.make_version()

    response = site.client.post(
        f"/v1/models/{version.model.path}:predict",
        content=json.dumps({"instances": [factories.image(1), factories.image(9)]}),
        headers={"Authorization": f"Bearer {secret}"},
    )

    assert response.status_code == 200, response.text
    rows = response.json()["predictions"]
    assert [row.index(max(row)) for row in rows] == [1, 9]
    assert response.headers["Mercato-Cost"] == "0.00004"
