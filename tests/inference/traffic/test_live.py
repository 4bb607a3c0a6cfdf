"""A canary over HTTP: two gateways, a real worker, and a version that fails."""

from __future__ import annotations

from accounts.models import Organization
from catalog.models import ModelVersion
from inference.models import Canary
from inference.traffic import canaries, watching
from inference.traffic.canaries import Rule
from tests import factories
from tests.live import Site


def test_a_broken_version_fails_for_some_until_it_is_rolled_back(
    site: Site, first: ModelVersion, second: ModelVersion, organization: Organization
) -> None:
    """Nobody pays for its failures, and all calls are served again without anybody's help."""
    second.artifacts.update(path="nothing/here.onnx")
    _, secret = factories.make_key(organization)
    canary = canaries.start(second, Rule(percent=50, max_error_percent=10, min_calls=5), actor=None)

    def call(number: int) -> tuple[int, str]:
        answer = site.predict(
            secret, factories.body(first), **{"X-Request-Id": f"request-{number}"}
        )
        return answer.status_code, answer.json().get("model", "")

    found = [call(number) for number in range(30)]

    served = [each for each in found if each == (200, "house/digits:1")]
    failed = [each for each in found if each == (503, "")]
    assert len(served) + len(failed) == 30
    assert min(len(served), len(failed)) >= 5
    assert watching.watch() == 1
    canary.refresh_from_db()
    assert (canary.state, canary.measured["errors"]) == (Canary.State.ROLLED_BACK, len(failed))
    site.wait_until(lambda: all(call(each)[0] == 200 for each in range(30)), seconds=60)
