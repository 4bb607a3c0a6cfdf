from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from accounts.models import Organization
from billing import invoice_reports
from billing.models import BillingPeriod, MeterBucket
from tests.factories import make_organization

pytestmark = pytest.mark.django_db


def use(organization: Organization, hour: datetime, nanos: int) -> None:
    MeterBucket.objects.create(organization=organization, hour=hour, nanos=nanos)


def test_what_a_month_came_to_is_the_same_in_a_list_as_alone(organization: Organization) -> None:
    other = make_organization()
    for month in (date(2026, 1, 1), date(2026, 2, 1), date(2025, 2, 1)):
        BillingPeriod.objects.create(organization=organization, month=month)
    BillingPeriod.objects.create(organization=other, month=date(2026, 1, 1))
    use(organization, datetime(2026, 1, 1, tzinfo=UTC), 1)
    use(organization, datetime(2026, 1, 31, 23, tzinfo=UTC), 10)
    use(organization, datetime(2026, 2, 1, tzinfo=UTC), 100)
    use(other, datetime(2026, 1, 9, tzinfo=UTC), 1000)

    periods = invoice_reports.with_used(BillingPeriod.objects.order_by("organization_id", "month"))

    found = [vars(period)["used_nanos"] for period in periods]
    assert found == [0, 11, 100, 1000]
    assert found == [invoice_reports.used(period) for period in periods]
