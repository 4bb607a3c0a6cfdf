"""Where the API of money is; included under /v1."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from billing.api import (
    balance,
    budgets,
    earnings,
    invoices,
    keys,
    receipts,
    redemptions,
    statement,
    topups,
    usage,
)
from billing.api import prices as model_prices

urlpatterns: list[URLPattern | URLResolver] = [
    path("keys", keys.Keys.as_view()),
    path("earnings", earnings.Earnings.as_view()),
    path("payouts", earnings.Payouts.as_view()),
    path("invoices", invoices.Invoices.as_view()),
    path("invoices/<str:number>.pdf", invoices.InvoicePdf.as_view()),
    path("invoices/<str:number>.csv", invoices.InvoiceCsv.as_view()),
    path("invoices/<str:number>", invoices.InvoiceDetail.as_view()),
    path("balance", balance.Balance.as_view()),
    path("balance/alert", budgets.LowBalance.as_view()),
    path("budgets", budgets.Budgets.as_view()),
    path("budgets/alerts", budgets.BudgetAlerts.as_view()),
    path("topups", topups.TopUpList.as_view()),
    path("topups/<uuid:top_up_id>", topups.TopUpDetail.as_view()),
    path("redemptions", redemptions.Redemptions.as_view()),
    path("usage", usage.Usage.as_view()),
    path("statement", statement.Statement.as_view()),
    path("models/<slug:owner>/<slug:name>/prices", model_prices.Prices.as_view()),
    path("models/<slug:owner>/<slug:name>/prices/changes", model_prices.PriceChanges.as_view()),
    path("receipts/<str:reference>", receipts.ReceiptDetail.as_view()),
]
