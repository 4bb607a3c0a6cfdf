"""Whose money is where: paid credit, promotional credit, the credit line."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.models import Organization
from billing.models.invoices import Invoice
from billing.models.ledger import LedgerTransaction


class Wallet(models.Model):
    """What an organization has. A projection of the ledger, kept under this row's lock.

    The wallet's budget says how much may be set aside; here it is divided by where it came from:
    `capacity - posted = paid + grants + line - owed`.
    """

    organization = models.OneToOneField(Organization, models.PROTECT, related_name="wallet")
    currency = models.CharField(max_length=3, default="usd")
    # Paid credit that is left. Below zero only after credit was taken back.
    paid_nanos = models.BigIntegerField(default=0)
    # How much may be used before it is paid.
    line_nanos = models.BigIntegerField(default=0)
    # Used and not paid yet.
    owed_nanos = models.BigIntegerField(default=0)
    stripe_customer = models.CharField(max_length=80, blank=True)
    # The metered subscription of a credit line, and from when on Stripe counts for it.
    stripe_subscription = models.CharField(max_length=80, blank=True)
    subscribed_at = models.DateTimeField(null=True, blank=True)
    # The saved card: Stripe's id of the payment method, and how its owner knows it.
    payment_method = models.CharField(max_length=80, blank=True)
    card_label = models.CharField(max_length=40, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(line_nanos__gte=0), name="line_positive"),
            models.CheckConstraint(condition=Q(owed_nanos__gte=0), name="owed_positive"),
            models.UniqueConstraint(
                fields=["stripe_customer"],
                condition=~Q(stripe_customer=""),
                name="one_wallet_per_stripe_customer",
            ),
        ]

    def __str__(self) -> str:
        return f"wallet of {self.organization_id}"


class CreditGrant(models.Model):
    """Promotional credit: used before paid credit, earliest expiry first."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="credit_grants")
    amount_nanos = models.BigIntegerField()
    remaining_nanos = models.BigIntegerField()
    reason = models.CharField(max_length=500, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ledger_transaction = models.OneToOneField(
        LedgerTransaction, models.PROTECT, related_name="credit_grant"
    )

    class Meta:
        # The order in which grants are used up.
        ordering = [F("expires_at").asc(nulls_last=True), "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(remaining_nanos__gte=0, remaining_nanos__lte=F("amount_nanos")),
                name="grant_within_amount",
            )
        ]
        indexes = [
            models.Index(
                fields=["organization", "expires_at", "id"],
                condition=Q(remaining_nanos__gt=0),
                name="grant_open",
            )
        ]

    def __str__(self) -> str:
        return f"grant {self.pk} of {self.organization_id}"


class TopUp(models.Model):
    """Credit bought with a card: one payment, credited once."""

    class Kind(models.TextChoices):
        CHECKOUT = "checkout"
        AUTO = "auto"

    class State(models.TextChoices):
        PENDING = "pending"
        CREDITED = "credited"
        FAILED = "failed"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="top_ups")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    currency = models.CharField(max_length=3, default="usd")
    credit_nanos = models.BigIntegerField()
    # What the card is charged without tax, in the currency's smallest coin.
    charge_minor = models.BigIntegerField()
    # What was charged for tax on top of it; known when it is paid.
    tax_minor = models.BigIntegerField(default=0)
    checkout_session = models.CharField(max_length=120, blank=True)
    payment_intent = models.CharField(max_length=120, blank=True)
    charge = models.CharField(max_length=120, blank=True)
    # Given back or clawed back so far, cumulative; see billing.clawback.
    clawed_back_nanos = models.BigIntegerField(default=0)
    refunded_nanos = models.BigIntegerField(default=0)
    # Counts what Stripe's refunds and disputes have changed here: what was read at Stripe before
    # the last change is not believed.
    revision = models.PositiveIntegerField(default=0)
    failure = models.CharField(max_length=80, blank=True)
    created_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(kind="auto", state="pending"),
                name="one_auto_top_up_pending",
            ),
            models.UniqueConstraint(
                fields=["checkout_session"],
                condition=~Q(checkout_session=""),
                name="one_top_up_per_session",
            ),
            models.UniqueConstraint(
                fields=["payment_intent"],
                condition=~Q(payment_intent=""),
                name="one_top_up_per_payment",
            ),
            models.CheckConstraint(
                condition=Q(credit_nanos__gt=0, charge_minor__gt=0), name="top_up_positive"
            ),
            models.CheckConstraint(
                condition=Q(
                    clawed_back_nanos__gte=0,
                    clawed_back_nanos__lte=F("credit_nanos"),
                    refunded_nanos__gte=0,
                    refunded_nanos__lte=F("credit_nanos"),
                ),
                name="clawed_back_within_credit",
            ),
        ]

    def __str__(self) -> str:
        return f"top-up {self.pk}"


class AutoReload(models.Model):
    """Buy credit with the saved card when the balance falls below a threshold."""

    organization = models.OneToOneField(Organization, models.PROTECT, related_name="auto_reload")
    is_enabled = models.BooleanField(default=False)
    threshold_nanos = models.BigIntegerField()
    amount_nanos = models.BigIntegerField()
    # At most so much is charged per calendar month (UTC).
    monthly_limit_nanos = models.BigIntegerField()
    # How often the card was to be charged.
    attempts = models.PositiveIntegerField(default=0)
    # After a declined card nothing is tried until its owner acts.
    paused_reason = models.CharField(max_length=120, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(threshold_nanos__gte=0, amount_nanos__gt=0, monthly_limit_nanos__gte=0),
                name="auto_reload_positive",
            )
        ]

    def __str__(self) -> str:
        return f"auto-reload of {self.organization_id}"


class RedeemCode(models.Model):
    """A code that gives promotional credit; only its digest is stored."""

    digest = models.CharField(max_length=64, unique=True)
    last4 = models.CharField(max_length=4)
    amount_nanos = models.BigIntegerField()
    max_redemptions = models.PositiveIntegerField(default=1)
    redemptions = models.PositiveIntegerField(default=0)
    # Until when it can be redeemed, and how long the credit lasts from then on.
    expires_at = models.DateTimeField(null=True, blank=True)
    credit_days = models.PositiveIntegerField(null=True, blank=True)
    is_disabled = models.BooleanField(default=False)
    note = models.CharField(max_length=200, blank=True)
    created_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_nanos__gt=0, redemptions__lte=F("max_redemptions")),
                name="code_within_redemptions",
            )
        ]

    def __str__(self) -> str:
        return f"code …{self.last4}"


class Redemption(models.Model):
    """An organization has redeemed a code, once."""

    code = models.ForeignKey(RedeemCode, models.PROTECT, related_name="redeemed")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="redemptions")
    grant = models.OneToOneField(CreditGrant, models.PROTECT, related_name="redemption")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["code", "organization"], name="one_redemption_per_organization"
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} redeemed {self.code_id}"


class Dispute(models.Model):
    """A payment that its card's owner contests: of a top-up, or of an invoice."""

    class State(models.TextChoices):
        OPEN = "open"
        WON = "won"
        LOST = "lost"

    id = models.CharField(primary_key=True, max_length=80)
    top_up = models.ForeignKey(
        TopUp, models.PROTECT, null=True, blank=True, related_name="disputes"
    )
    invoice = models.ForeignKey(
        Invoice, models.PROTECT, null=True, blank=True, related_name="disputes"
    )
    state = models.CharField(max_length=4, choices=State.choices, default=State.OPEN)
    amount_minor = models.BigIntegerField()
    # What Stripe has taken from us so far less what it gave back, cumulative.
    withdrawn_minor = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=80, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(top_up=None) ^ Q(invoice=None), name="dispute_of_one_payment"
            )
        ]

    def __str__(self) -> str:
        return self.pk

    @property
    def payment(self) -> TopUp | Invoice:
        """What was paid: its `organization` and `currency` are the dispute's."""
        payment = self.top_up or self.invoice
        assert payment is not None
        return payment


class CreditRefund(models.Model):
    """Unspent credit that goes back to the card it came from."""

    class State(models.TextChoices):
        PENDING = "pending"
        REFUNDED = "refunded"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True)
    top_up = models.ForeignKey(TopUp, models.PROTECT, related_name="refunds")
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    amount_nanos = models.BigIntegerField()
    amount_minor = models.BigIntegerField()
    stripe_refund = models.CharField(max_length=80, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    failure = models.CharField(max_length=80, blank=True)
    actor = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_nanos__gt=0, amount_minor__gt=0), name="refund_positive"
            )
        ]

    def __str__(self) -> str:
        return f"refund {self.pk}"
