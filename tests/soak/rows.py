"""Writes what a soak needs into an empty database; prints [model, key] as JSON.

The models a site starts with get a small file that is not trained: the start is quick.
"""

from __future__ import annotations

import json
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maas_site.settings")
django.setup()

from django.core.management import call_command  # noqa: E402

from accounts.models import Organization  # noqa: E402
from billing import credit  # noqa: E402
from billing.money import NANOS  # noqa: E402
from maas_site import first_run  # noqa: E402
from tests import factories  # noqa: E402
from training.recipes import RECIPES  # noqa: E402


def main() -> None:
    """Migrate, make the first organizations and their models, and one tenant with much credit."""
    call_command("migrate", verbosity=0)
    first_run.seed()
    publisher = Organization.objects.get(slug=first_run.PUBLISHER)
    versions = [factories.make_version(owner=publisher, name=name) for name in RECIPES]
    tenant = factories.make_organization(slug="soak", credit_nanos=0)
    credit.grant(tenant, 100_000 * NANOS, external_ref="soak", reason="soak")
    _, secret = factories.make_key(tenant)
    body = factories.body(versions[0], digit=7)
    print(json.dumps([body.decode(), secret]))


if __name__ == "__main__":
    main()
