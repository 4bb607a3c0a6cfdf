"""Invoices and the meters they are made of."""

from __future__ import annotations

from collections import defaultdict

from django.db.models import F, Max, Sum
from django.db.models.functions import Coalesce

from billing import invoice_disputes, invoice_lines, invoices, minor
from billing.checks.trouble import Trouble
from billing.models import Invoice, InvoiceSeries, MeterBucket


def buckets_are_cut_as_reported() -> list[Trouble]:
    """What a bucket says was cut is where its last report ends."""
    wrong = MeterBucket.objects.annotate(end=Coalesce(Max("reports__nanos_to"), 0)).exclude(
        cut_nanos=F("end")
    )
    return [
        Trouble(
            f"bucket:{bucket.pk}",
            f"meter {bucket} says {bucket.cut_nanos} is reported, its reports end at {bucket.end}",
            bucket.organization_id,
            bucket.end,
            bucket.cut_nanos,
        )
        for bucket in wrong
    ]


def invoices_are_frozen() -> list[Trouble]:
    """Each invoice is what its digest was made of, and comes to what its month was."""
    found = []
    for invoice in Invoice.objects.select_related("period").iterator(chunk_size=200):
        name, owner = f"invoice:{invoice.number}", invoice.organization_id
        if invoices.digest(invoice.frozen) != invoice.sha256:
            text = f"invoice {invoice.number} is not what was frozen"
            found.append(Trouble(name, text, owner))
        billed = minor.to_nanos(invoice.subtotal_minor, invoice.currency)
        used = invoice_lines.amounts(invoice.period).used_nanos
        rest = used + invoice.carried_in_nanos - billed
        if (used, rest) != (invoice.used_nanos, invoice.carried_out_nanos):
            text = f"invoice {invoice.number} bills {invoice.used_nanos}, its reports say {used}"
            found.append(Trouble(name, text, owner, used, invoice.used_nanos))
    return found


def disputed_invoices_are_booked() -> list[Trouble]:
    """What banks have taken back of an invoice is what the ledger shows for it."""
    found = []
    disputed = Invoice.objects.filter(disputes__isnull=False, state=Invoice.State.PAID)
    for invoice in disputed.annotate(gone=Sum("disputes__withdrawn_minor")):
        wanted = invoice_disputes.target(invoice, max(invoice.gone, 0))
        said, shown = -wanted["clearing"], -invoice_disputes.booked(invoice)["clearing"]
        if said != shown:
            text = f"invoice {invoice}: {said} is disputed, the ledger has {shown}"
            found.append(Trouble(f"invoice:{invoice}", text, invoice.organization_id, said, shown))
    return found


def numbers_have_no_gaps() -> list[Trouble]:
    """Each series has every number up to its last one, once."""
    given: dict[str, list[int]] = defaultdict(list)
    for number in Invoice.objects.values_list("number", flat=True):
        series, _, digits = number.rpartition("-")
        given[series].append(int(digits))
    last = dict(InvoiceSeries.objects.values_list("name", "last_number"))
    return [
        Trouble(
            f"series:{series}",
            f"series {series} should end at {last.get(series, 0)} and has "
            f"{len(given[series])} numbers up to {max(given[series], default=0)}",
        )
        for series in sorted(given.keys() | last.keys())
        if sorted(given[series]) != list(range(1, last.get(series, 0) + 1))
    ]
