"""What the nightly comparison of usage, ledger and Stripe found."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.models import Organization
from billing.models.ledger import LedgerTransaction


class ReconciliationRun(models.Model):
    """One comparison of everything with everything."""

    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    requested_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # Check → how many rows it looked at.
    checked = models.JSONField(default=dict)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"run {self.pk}"


class Finding(models.Model):
    """Two books disagree. Open until they agree again or a person has dealt with it."""

    class State(models.TextChoices):
        OPEN = "open"
        CORRECTED = "corrected"
        DISMISSED = "dismissed"
        GONE = "gone"

    run = models.ForeignKey(ReconciliationRun, models.PROTECT, related_name="findings")
    check_name = models.CharField(max_length=60)
    # What it is about, such as `budget:7` or `txn_1`: the same trouble is one row, not one a night.
    subject = models.CharField(max_length=120)
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="findings"
    )
    text = models.CharField(max_length=500)
    # What each side says, in nanos; the difference is what a corrective entry moves.
    expected_nanos = models.BigIntegerField(null=True, blank=True)
    found_nanos = models.BigIntegerField(null=True, blank=True)
    state = models.CharField(max_length=9, choices=State.choices, default=State.OPEN)
    last_run = models.ForeignKey(ReconciliationRun, models.PROTECT, related_name="+")
    correction = models.OneToOneField(
        LedgerTransaction, models.PROTECT, null=True, blank=True, related_name="finding"
    )
    closed_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    closed_reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["check_name", "subject"],
                condition=Q(state="open"),
                name="one_open_finding_per_subject",
            )
        ]

    def __str__(self) -> str:
        return f"{self.check_name}: {self.subject}"
