"""How the price of a run is divided, and how publishers get their part."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import Organization
from billing.models.ledger import LedgerTransaction, Settlement
from catalog.models import MLModel


class ShareVersion(models.Model):
    """The publisher's part of each charge, in basis points, from an instant on. Immutable.

    For all, for one publisher, or for one model: the narrowest that has taken effect applies.
    """

    publisher = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="share_versions"
    )
    model = models.ForeignKey(
        MLModel, models.PROTECT, null=True, blank=True, related_name="share_versions"
    )
    publisher_bps = models.PositiveIntegerField()
    effective_from = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-effective_from", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(publisher_bps__lte=10_000), name="share_at_most_all")
        ]

    def __str__(self) -> str:
        return f"{self.publisher_bps} bps"


class Earning(models.Model):
    """What one publisher earned in one settlement: accrued, then payable after the hold period."""

    publisher = models.ForeignKey(Organization, models.PROTECT, related_name="earnings")
    settlement = models.ForeignKey(Settlement, models.PROTECT, related_name="earnings")
    amount_nanos = models.BigIntegerField()
    # Taken back by refunds before it became payable.
    clawed_back_nanos = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    # Set with the ledger transaction that made it payable.
    released_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["publisher", "settlement"], name="one_earning_per_settlement"
            ),
            models.CheckConstraint(
                condition=Q(clawed_back_nanos__gte=0, clawed_back_nanos__lte=F("amount_nanos")),
                name="earning_clawed_back_within",
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"], condition=Q(released_at=None), name="earning_accrued"
            )
        ]

    def __str__(self) -> str:
        return f"{self.publisher_id}: {self.amount_nanos}"


class PayoutAccount(models.Model):
    """A publisher's account at Stripe Connect."""

    organization = models.OneToOneField(Organization, models.PROTECT, related_name="payout_account")
    stripe_account = models.CharField(max_length=80, unique=True)
    country = models.CharField(max_length=2, blank=True)
    # Whether money may be transferred to it now.
    payouts_enabled = models.BooleanField(default=False)
    details_submitted = models.BooleanField(default=False)
    # What Stripe still wants to know, in its words.
    requirements = models.JSONField(default=list)
    # Why Stripe has closed it, in its words.
    disabled_reason = models.CharField(max_length=120, blank=True)
    # Why the bank sent the last payment back, in Stripe's words.
    bank_failure = models.CharField(max_length=200, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.stripe_account


class Payout(models.Model):
    """Money that goes to a publisher: booked, sent once, and proved.

    Pending is booked; sent is handed to Stripe, with an outcome that is not known yet; paid is on
    the publisher's account at Stripe. A failed or reversed one is payable again.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        PAID = "paid"
        FAILED = "failed"
        REVERSED = "reversed"

    id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="payouts")
    currency = models.CharField(max_length=3, default="usd")
    # First day of the month it is made in, UTC.
    period = models.DateField()
    amount_nanos = models.BigIntegerField()
    amount_minor = models.BigIntegerField()
    # What is less than a coin and stays payable.
    carry_nanos = models.BigIntegerField(default=0)
    # What has come back so far, cumulative.
    reversed_minor = models.BigIntegerField(default=0)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    stripe_account = models.CharField(max_length=80)
    stripe_transfer = models.CharField(max_length=80, blank=True)
    failure = models.CharField(max_length=200, blank=True)
    ledger_transaction = models.OneToOneField(
        LedgerTransaction, models.PROTECT, related_name="payout"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(state__in=["pending", "sent"]),
                name="one_payout_open",
            ),
            models.CheckConstraint(
                condition=Q(amount_nanos__gt=0, amount_minor__gt=0), name="payout_positive"
            ),
            models.CheckConstraint(
                condition=Q(reversed_minor__gte=0, reversed_minor__lte=F("amount_minor")),
                name="payout_reversed_within",
            ),
        ]

    def __str__(self) -> str:
        return f"payout {self.pk}"
