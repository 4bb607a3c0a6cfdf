"""Shadows over HTTP: two gateways, a real worker, and callers who notice nothing."""

from __future__ import annotations

from accounts.models import Organization
from billing import budgets
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from catalog import publishing
from catalog.models import ModelVersion
from inference.models import Shadow
from inference.traffic import shadows
from tests import factories
from tests.inference.traffic.conftest import add_version, turn_around
from tests.live import Site


class Calls:
    """Calls the model until a shadow has counted some; counts what was charged."""

    def __init__(self, site: Site, organization: Organization, version: ModelVersion) -> None:
        self.site, self.version, self.made = site, version, 0
        _, self.secret = factories.make_key(organization)

    def until_counted(self, version: ModelVersion) -> Shadow:
        """Shadow a version with all calls, and return what it has counted."""
        version.refresh_from_db()
        version.model.refresh_from_db()
        shadow = shadows.put(version, 100, actor=None)
        made = self.made

        def has_counted() -> bool:
            self._call()
            shadow.refresh_from_db()
            return shadow.calls >= 10

        self.site.wait_until(has_counted, seconds=60)
        assert shadows.stop(shadow, actor=None)
        assert shadow.calls <= self.made - made
        return shadow

    def _call(self) -> None:
        answer = self.site.predict(self.secret, factories.body(self.version, 3))
        self.made += 1
        assert answer.status_code == 200
        assert answer.json()["model"] == "house/shadowed:1"
        assert answer.json()["output"]["label"] == "3"
        assert answer.headers["Mercato-Cost"] == "0.00002"


def test_copies_are_compared_and_only_the_calls_are_charged(
    site: Site, house: Organization, organization: Organization
) -> None:
    """A version like the current one, one that sees something else, and one that is broken."""
    # A name of its own: gateways remember for seconds what a name meant in another test.
    first = factories.make_version(owner=house, name="shadowed")
    publishing.pin(first.model, first, actor=None)
    second, other, broken = (add_version(first, number) for number in (2, 3, 4))
    turn_around(other)
    broken.artifacts.update(path="nothing/here.onnx")
    # Nobody can call it: a shadow need not be published.
    ModelVersion.objects.filter(pk=second.pk).update(status=ModelVersion.Status.DRAFT)
    calls = Calls(site, organization, first)

    same = calls.until_counted(second)
    assert (same.failures, same.agreed_percent) == (0, 100)
    assert same.mean_us is not None
    assert same.stable_mean_us is not None
    assert min(same.mean_us, same.stable_mean_us) > 0

    assert calls.until_counted(other).agreed == 0

    failed = calls.until_counted(broken)
    assert failed.failures == failed.calls

    site.settle()
    assert Hold.objects.count() == UsageEvent.objects.count() == calls.made
    assert {each.model_version_id for each in UsageEvent.objects.all()} == {first.pk}
    assert budgets.wallet(organization).available == 5 * NANOS - calls.made * factories.ROW_NANOS
