"""Where the money pages and their API are."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from billing.api.urls import urlpatterns as api_urlpatterns
from billing.views import (
    budgets,
    earnings,
    fake_stripe,
    invoices,
    keys,
    receipts,
    statement,
    stripe_webhook,
    usage,
    wallet,
)
from billing.views import prices as price_views

urlpatterns: list[URLPattern | URLResolver] = [
    path("console/keys", keys.key_list, name="keys"),
    path("console/keys/new", keys.key_create, name="key_create"),
    path("console/keys/<int:key_id>", keys.key, name="key"),
    path("console/keys/<int:key_id>/revoke", keys.key_revoke, name="key_revoke"),
    path("console/usage", usage.usage, name="usage"),
    path("console/usage/<uuid:hold_id>", receipts.receipt, name="receipt"),
    path("console/receipts/<str:reference>", receipts.receipt_find, name="receipt_find"),
    path("console/usage.csv", usage.usage_csv, name="usage_csv"),
    path("console/usage/groups.csv", usage.usage_groups_csv, name="usage_groups_csv"),
    path("console/statement", statement.statement, name="statement"),
    path("console/statement.csv", statement.statement_csv, name="statement_csv"),
    path("console/balance", wallet.balance, name="balance"),
    path("console/balance/topup", wallet.topup_start, name="topup_start"),
    path("console/balance/topup/done", wallet.topup_done, name="topup_done"),
    path("console/balance/topup/canceled", wallet.topup_canceled, name="topup_canceled"),
    path("console/balance/topup/<uuid:top_up_id>/refund", wallet.topup_refund, name="topup_refund"),
    path("console/balance/redeem", wallet.redeem, name="redeem"),
    path("console/balance/reload", wallet.reload_set, name="reload_set"),
    path("console/balance/card", wallet.card_back, name="card_back"),
    path("console/balance/card/save", wallet.card_save, name="card_save"),
    path("console/balance/card/remove", wallet.card_remove, name="card_remove"),
    path("console/balance/portal", wallet.portal, name="portal"),
    path("console/balance/limit", budgets.limit_set, name="limit_set"),
    path("console/budgets", budgets.budget_list, name="budgets"),
    path("console/budgets/set", budgets.budget_set, name="budget_set"),
    path("console/budgets/remove", budgets.budget_remove, name="budget_remove"),
    path("console/budgets/low-balance", budgets.low_balance_set, name="low_balance_set"),
    path("console/invoices", invoices.invoice_list, name="invoices"),
    path("console/invoices/<str:number>.csv", invoices.invoice_csv, name="invoice_csv"),
    path(
        "console/invoices/<str:number>-<str:language>.pdf", invoices.invoice_pdf, name="invoice_pdf"
    ),
    path("console/invoices/<str:number>", invoices.invoice, name="invoice"),
    path("console/prices", price_views.price_list, name="prices"),
    path(
        "console/prices/changes/<int:change_id>/withdraw",
        price_views.price_withdraw,
        name="price_withdraw",
    ),
    path("console/prices/<slug:name>", price_views.price, name="price"),
    path("console/prices/<slug:name>/propose", price_views.price_propose, name="price_propose"),
    path("console/earnings", earnings.earnings_page, name="earnings"),
    path("console/earnings.csv", earnings.earnings_csv, name="earnings_csv"),
    path("console/earnings/account", earnings.payout_account, name="payout_account"),
    path("console/earnings/account/back", earnings.payout_account_back, name="payout_account_back"),
    path("dev/stripe/checkout/<slug:session_id>", fake_stripe.checkout, name="fake_checkout"),
    path("dev/stripe/portal/<slug:session_id>", fake_stripe.portal, name="fake_portal"),
    path("dev/stripe/connect/<slug:link_id>", fake_stripe.connect, name="fake_connect"),
    path("dev/stripe/invoice/<slug:invoice_id>", fake_stripe.invoice, name="fake_invoice"),
    path("stripe/webhook", stripe_webhook.stripe_webhook, name="stripe_webhook"),
]

__all__ = ["api_urlpatterns", "urlpatterns"]
