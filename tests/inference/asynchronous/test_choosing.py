"""Workers run what operators let them."""

from __future__ import annotations

from accounts.models import Organization
from catalog.models import ModelVersion
from inference import registry
from inference.asynchronous import choosing, claims
from inference.models import Placement
from inference.registry import Member
from tests import factories
from tests.inference.asynchronous.conftest import Accept


def test_workers_run_what_operators_let_them(
    accept: Accept, organization: Organization, version: ModelVersion
) -> None:
    placed = factories.make_version()
    Placement.objects.create(version=placed, labels={"gpu": "1"})
    on_gpu, anywhere = accept(version=placed), accept()

    drained = choosing.runnable(Member("w", duty=registry.DRAINED))
    cordoned = choosing.runnable(Member("w", duty=registry.CORDONED))
    plain = claims.claim("w", choosing.runnable(Member("w")))
    with_gpu = claims.claim("w", choosing.runnable(Member("w", labels={"gpu": "1"})))

    assert drained is None
    assert claims.claim("w", cordoned) is None
    assert plain is not None
    assert [one.pk for one in plain.predictions] == [anywhere.pk]
    assert with_gpu is not None
    assert [one.pk for one in with_gpu.predictions] == [on_gpu.pk]
