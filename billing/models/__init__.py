"""Money: what may be spent, what is set aside, what was used, what was booked."""

from __future__ import annotations

from billing.models.budgets import (
    BalanceAlert,
    BalanceWatch,
    Budget,
    BudgetAlert,
    BudgetSet,
    SpendLimit,
    Unit,
)
from billing.models.corrections import Adjustment, ChargeRefund, ChargeRefundRun
from billing.models.holds import Hold
from billing.models.invoices import (
    BillingPeriod,
    Invoice,
    InvoiceSeries,
    MeterBucket,
    MeterReport,
)
from billing.models.ledger import (
    LedgerAccount,
    LedgerBook,
    LedgerEntry,
    LedgerTransaction,
    Settlement,
)
from billing.models.publishers import Earning, Payout, PayoutAccount, ShareVersion
from billing.models.quotes import Quote
from billing.models.reconciliation import Finding, ReconciliationRun
from billing.models.stripe import StripeEvent, StripeOp
from billing.models.usage import UsageEvent, UsageOrphan, UsageRollup
from billing.models.wallets import (
    AutoReload,
    CreditGrant,
    CreditRefund,
    Dispute,
    RedeemCode,
    Redemption,
    TopUp,
    Wallet,
)

__all__ = [
    "Adjustment",
    "AutoReload",
    "BalanceAlert",
    "BalanceWatch",
    "BillingPeriod",
    "Budget",
    "BudgetAlert",
    "BudgetSet",
    "ChargeRefund",
    "ChargeRefundRun",
    "CreditGrant",
    "CreditRefund",
    "Dispute",
    "Earning",
    "Finding",
    "Hold",
    "Invoice",
    "InvoiceSeries",
    "LedgerAccount",
    "LedgerBook",
    "LedgerEntry",
    "LedgerTransaction",
    "MeterBucket",
    "MeterReport",
    "Payout",
    "PayoutAccount",
    "Quote",
    "ReconciliationRun",
    "RedeemCode",
    "Redemption",
    "Settlement",
    "ShareVersion",
    "SpendLimit",
    "StripeEvent",
    "StripeOp",
    "TopUp",
    "Unit",
    "UsageEvent",
    "UsageOrphan",
    "UsageRollup",
    "Wallet",
]
