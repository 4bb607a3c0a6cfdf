"""Postpaid: meters, the close of a month, invoices."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.models import Organization


class MeterBucket(models.Model):
    """What an organization used on its credit line in one hour; added to by the settler."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="meter_buckets")
    currency = models.CharField(max_length=3, default="usd")
    hour = models.DateTimeField()
    nanos = models.BigIntegerField(default=0)
    # How much of it has been cut into reports so far.
    cut_nanos = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "currency", "hour"], name="one_bucket_per_hour"
            ),
            models.CheckConstraint(
                condition=Q(cut_nanos__gte=0, cut_nanos__lte=F("nanos")), name="cut_within_bucket"
            ),
        ]
        indexes = [
            # What is still to be reported.
            models.Index(
                fields=["hour"], condition=Q(nanos__gt=F("cut_nanos")), name="bucket_uncut"
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.hour}"


class MeterReport(models.Model):
    """A part of a bucket that is told to Stripe: the outbox of usage."""

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        UNKNOWN = "unknown"
        OK = "ok"
        REJECTED = "rejected"

    bucket = models.ForeignKey(MeterBucket, models.PROTECT, related_name="reports")
    seq = models.PositiveIntegerField()
    nanos_from = models.BigIntegerField()
    nanos_to = models.BigIntegerField()
    # Whole micro-units: floor(nanos_to / 1000) - floor(nanos_from / 1000), so cuts never drift.
    value = models.BigIntegerField()
    identifier = models.CharField(max_length=100, unique=True)
    # The instant it counts for at Stripe: in the bucket, or later if that month is closed.
    counted_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    first_sent_at = models.DateTimeField(null=True, blank=True)
    # Nobody else sends for the same customer until then; also the wait after a failure.
    claimed_until = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["bucket", "seq"], name="one_report_per_cut"),
            models.CheckConstraint(
                condition=Q(nanos_to__gt=F("nanos_from"), value__gte=0), name="report_forward"
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=Q(state__in=["pending", "sent", "unknown"]),
                name="meter_report_open",
            )
        ]

    def __str__(self) -> str:
        return self.identifier


class BillingPeriod(models.Model):
    """One month of one organization, closed step by step; each step may be taken again."""

    class State(models.TextChoices):
        OPEN = "open"
        DRAINING = "draining"
        SETTLED = "settled"
        METERED = "metered"
        DRAFT_CHECKED = "draft_checked"
        FINALISED = "finalised"
        RECONCILED = "reconciled"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="billing_periods")
    currency = models.CharField(max_length=3, default="usd")
    # First day of the month, UTC.
    month = models.DateField()
    state = models.CharField(max_length=13, choices=State.choices, default=State.OPEN)
    # Why the close waits for a person; empty when it goes on by itself.
    blocked = models.CharField(max_length=500, blank=True)
    stripe_invoice = models.CharField(max_length=80, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-month", "organization"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "currency", "month"], name="one_period_per_month"
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.month}"


class InvoiceSeries(models.Model):
    """The last number given in a series: locked while the next is given, so none is missing."""

    name = models.CharField(primary_key=True, max_length=24)
    last_number = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class Invoice(models.Model):
    """What an organization owes for a month. Frozen when it gets its number."""

    class State(models.TextChoices):
        FINALISED = "finalised"
        PAID = "paid"
        VOIDED = "voided"
        UNCOLLECTIBLE = "uncollectible"

    number = models.CharField(max_length=40, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="invoices")
    period = models.OneToOneField(BillingPeriod, models.PROTECT, related_name="invoice")
    state = models.CharField(max_length=13, choices=State.choices, default=State.FINALISED)
    currency = models.CharField(max_length=3, default="usd")
    # The exact use, and what of it is billed in whole coins; the rest is carried to next month.
    used_nanos = models.BigIntegerField()
    carried_in_nanos = models.BigIntegerField(default=0)
    carried_out_nanos = models.BigIntegerField(default=0)
    subtotal_minor = models.BigIntegerField()
    tax_minor = models.BigIntegerField(default=0)
    total_minor = models.BigIntegerField()
    credited_minor = models.BigIntegerField(default=0)
    # Counts what disputes have changed here: what was read at Stripe before the last change is
    # not believed.
    revision = models.PositiveIntegerField(default=0)
    stripe_invoice = models.CharField(max_length=80, blank=True)
    hosted_url = models.URLField(max_length=500, blank=True)
    # Lines, prices, addresses, as they were; the PDF is made from this alone.
    frozen = models.JSONField()
    sha256 = models.CharField(max_length=64)
    issued_at = models.DateTimeField()
    paid_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-issued_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    total_minor=F("subtotal_minor") + F("tax_minor"),
                    credited_minor__gte=0,
                    credited_minor__lte=F("total_minor"),
                ),
                name="invoice_sums",
            )
        ]

    def __str__(self) -> str:
        return self.number
