"""Rows of every table, made by the verbs of the site: what the console's pages show."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from uuid import uuid4

from django.contrib.auth.models import Group
from django.utils import timezone

from accounts import keys, organizations
from accounts.keys import Caller
from accounts.models import Organization, User
from billing import credit, holds, price_changes, rating, reports, settlement
from billing.models import Hold, ShareVersion, UsageOrphan
from catalog import prices
from catalog.models import Artifact, MLModel, ModelVersion
from inference.models import Prediction, WebhookDelivery, Worker
from inference.webhooks import endpoints
from tests.maas_site.payment_rows import make_payments
from tests.maas_site.publisher_rows import make_publishing
from tests.maas_site.traffic_rows import make_traffic
from training.models import Job

_NUMBERS = count(1)


def make_version(owner: Organization, *, status: str = "published") -> ModelVersion:
    """Make a priced model with one version."""
    model = MLModel.objects.create(
        owner=owner,
        name=f"model-{next(_NUMBERS)}",
        title_en="Digits",
        summary_en="Reads digits.",
        task="image-classification",
        framework="tensorflow",
        is_public=True,
    )
    version = ModelVersion.objects.create(
        model=model, number=1, status=status, signature={"inputs": [], "outputs": []}
    )
    model.current_version = version
    model.save()
    prices.add(model=model, components={"row": (20_000, 1)})
    return version


def make_call(organization: Organization, version: ModelVersion, *, rows: int = 1) -> Hold:
    """Reserve and capture one call."""
    price = prices.current(version.model)
    assert price is not None
    plan, now = rating.plan_of(price), timezone.now()
    share, _ = ShareVersion.objects.get_or_create(publisher_bps=8000)
    key, _ = keys.issue(organization, "laptop")
    reservation = holds.prepare(
        Caller(organization.pk, organization.slug, api_key_id=key.pk),
        plan,
        share_version_id=share.pk,
        quantities={"row": rows},
        source="api",
        accepted_at=now,
        expires_at=now + timedelta(minutes=1),
        model_version_id=version.pk,
        request_id=f"req_{uuid4().hex}",
    )
    holds.reserve(reservation)
    holds.capture(
        reports.Report(
            hold_id=reservation.hold_id,
            outcome="succeeded",
            terms=reports.Terms(plan=plan, publisher_bps=8000, policy={}),
            quantities={"row": rows},
            organization_id=organization.pk,
            reserved_nanos=reservation.reserved_nanos,
            accepted_at=now,
            completed_at=now,
            model_version_id=version.pk,
            queue_us=800,
            run_us=4200,
            worker="predict-1",
        )
    )
    return Hold.objects.get(pk=reservation.hold_id)


def make_organization(*, nanos: int = 5_000_000_000) -> Organization:
    """Make an organization with an owner, and credit unless `nanos` is 0."""
    number = next(_NUMBERS)
    owner = User.objects.create_user(f"person-{number}@example.com")
    made = organizations.create(f"lab-{number}", f"Lab {number}", owner=owner)
    if nanos:
        credit.grant(made, nanos, external_ref=f"test:{made.pk}", reason="Test")
    return made


def make_everything(*, is_booked: bool = False) -> None:
    """Make at least one new row in every table the console shows.

    Args:
        is_booked: Only what the books agree with: no payments that nobody has made.
    """
    organization = make_organization()
    version = make_version(organization)
    now = timezone.now()
    Artifact.objects.create(
        version=version, kind="onnx", path=f"{version.pk}/model.onnx", sha256="0" * 64, size_bytes=1
    )
    hold = make_call(organization, version)
    settlement.settle()
    make_publishing(organization, hold)
    price_changes.propose(
        price_changes.Target(version.model),
        {"row": (10_000, 1)},
        actor=User.objects.create_user(f"proposer-{next(_NUMBERS)}@example.com"),
    )
    UsageOrphan.objects.create(hold_id=uuid4(), reason="hold_expired", report={})
    Prediction.objects.create(
        organization=organization,
        model_version=version,
        hold_id=hold.pk,
        input={"image": "a secret of the tenant"},
        expires_at=now,
    )
    name = f"predict-{next(_NUMBERS)}"
    Worker.objects.create(name=name, kind="predict", pool="cpu", pid=1, started_at=now, seen_at=now)
    make_job(organization)
    make_delivery(organization)
    if not is_booked:
        make_payments(organization)
    make_traffic(version)
    Group.objects.create(name=f"group-{next(_NUMBERS)}")


def make_delivery(organization: Organization) -> WebhookDelivery:
    """Make an event that a receiver has refused."""
    endpoint, _ = endpoints.create(organization, "https://example.com/hook")
    delivery = endpoints.ping(endpoint)
    delivery.log.create(status=500, failure="refused", milliseconds=12, excerpt="oops")
    return delivery


def make_job(organization: Organization, *, state: str = "failed") -> Job:
    """Make a training."""
    return Job.objects.create(
        organization=organization,
        recipe="mnist-mlp",
        data="digits",
        hyperparameters={"epochs": 1},
        state=state,
        max_seconds=60,
        finished_at=timezone.now() if state in Job.TERMINAL else None,
    )
