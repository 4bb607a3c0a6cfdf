"""What an operator does about a finding: what the button does, or why none can be right."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_TAMPERED = _(
    "Rows that never change were changed, or a restore went wrong. No entry can mend a chain: "
    "stop changing the database, keep a copy, and compare it with the last backup, row by row "
    "from the first one that is named here. Dismiss the finding once that is explained."
)
_PUBLISHER = _(
    "First correct the findings of earnings_are_shares about this publisher. What then remains "
    "was not written by the site: compare the publisher's rows with the last backup, then "
    "dismiss the finding."
)
ADVICE: Mapping[str, Promise] = {
    # The ledger by itself.
    "transactions_balance": _TAMPERED,
    "books_are_chained": _TAMPERED,
    "charges_are_chained": _TAMPERED,
    "settlements_are_their_holds": _TAMPERED,
    "invoices_are_frozen": _TAMPERED,
    "guards_are_in_place": _(
        "Correct puts all triggers back. Find out who dropped them, and compare once more: "
        "what was changed meanwhile shows up in the other checks."
    ),
    # Budgets, wallets, usage.
    "held_is_open_holds": _("Correct lets the budget follow its holds."),
    "posted_is_captured_holds": _("Correct lets the budget follow its holds."),
    "caps_are_kept": _(
        "More was admitted than the cap allows, and nothing that was spent can be taken back. "
        "See that all triggers are there and that the other budget checks find nothing; then "
        "raise the cap to what was spent, or leave it: nothing more starts until its window "
        "ends."
    ),
    "wallets_are_the_ledger": _(
        "Correct lets the wallet follow the ledger. Promotional credit is many rows: there the "
        "difference is booked against platform:suspense."
    ),
    "wallets_are_their_budgets": _("Correct lets the budget's capacity follow the wallet."),
    "usage_is_captured_holds": _(
        "Correct writes the usage of a charge that has none, if it is not settled and its "
        "price has one dimension: what was used follows from the charge. Otherwise give the "
        "charge back under Calls. Usage that says another amount was changed by hand: compare "
        "it with a backup."
    ),
    "usage_is_rated_by_its_price": _(
        "These calls were charged by another price than theirs. Give what was charged too much "
        "back, call by call under Calls or for all calls of a version; what was too little "
        "stays as it is."
    ),
    "rollups_are_usage": _("Correct makes the organization's hourly sums again from usage."),
    "holds_have_ended": _(
        "Correct ends the overdue runs without a charge and gives their money back. See why "
        "the sweep does not run: a light worker and beat must be alive."
    ),
    "ends_are_settled": _(
        "Correct settles the runs. See why the settler does not: a light worker must be alive, "
        "and no charge may be without usage."
    ),
    # Top-ups, refunds, publishers.
    "top_ups_are_credited_once": _(
        "Search the ledger for the top-up's payment at Stripe. If it was booked under another "
        "reference, the row was changed by hand: compare it with a backup. If it was not "
        "booked, give the credit by an entry from stripe:clearing."
    ),
    "top_ups_are_given_back_as_booked": _(
        "Correct lets the top-up say what the ledger and its refunds say."
    ),
    "disputed_invoices_are_booked": _("Correct books what disputes have taken of the invoice."),
    "publishers_are_the_ledger": _PUBLISHER,
    "accrued_is_the_ledger": _PUBLISHER,
    "payable_is_the_ledger": _(
        "Compare payouts, refunds of charges and released earnings of this publisher with the "
        "ledger. Pay or take the difference by an entry, then dismiss the finding."
    ),
    "earnings_are_shares": _(
        "Correct lets an earning that is not payable yet be what its settlement has booked. If "
        "it is payable, pay or take the difference by an entry."
    ),
    "refunds_are_within_charges": _(
        "More was given back than was charged. Take the difference from the organization's "
        "credit, and put the triggers back if they are missing."
    ),
    "payouts_are_booked": _(
        "Correct takes the booking of a refused payout back. If the amounts differ, or the "
        "payout was paid although its booking was taken back, look at the transfer at Stripe "
        "and book the difference by an entry."
    ),
    # Meters and invoices.
    "meters_are_the_ledger": _(
        "Correct lets the meters count what was charged on credit: what is missing counts for "
        "the newest hour, what is too much is taken from what is not reported."
    ),
    "reports_are_their_meters": _(
        "Correct works out a report again that was never sent. What Stripe knows already is "
        "put right by a credit note of the month's invoice."
    ),
    "buckets_are_cut_as_reported": _(
        "Correct lets the meter say that it is reported up to where its last report ends."
    ),
    "numbers_have_no_gaps": _(
        "A number that was given may be with a customer, so none is given again. Find the "
        "missing invoice in a backup and in its month's close, and dismiss the finding with "
        "what became of it."
    ),
    # Stripe.
    "clearing_is_stripes_balance": _(
        "Correct books the difference: to the organization's credit if its payment was "
        "credited to nobody, else against platform:suspense until somebody has explained it."
    ),
    "payments_are_credited": _("Correct reads the payment at Stripe, and lets it take effect."),
    "refused_payments_are_looked_at": _(
        "What was paid is not what was ordered. Refund it at Stripe, or give the credit by an "
        "entry from stripe:clearing; then dismiss the finding."
    ),
    "events_have_arrived": _(
        "Correct fetches an event that never arrived, and lets one that failed be handled "
        "again. Its last error says what must be removed first."
    ),
    "operations_have_ended": _(
        "The site asks again by itself for 23 hours. After that look for the object at Stripe, "
        "and say under Stripe operations what happened: nothing is sent twice until then."
    ),
    "payouts_are_transfers": _(
        "Look for the transfers of this payout at Stripe. Take one that is too much back "
        "there; if there is none, say under Stripe operations that it was not made, and it is "
        "sent again."
    ),
    "meters_are_counted": _(
        "Stripe's meter cannot be corrected after a day. Wait until Stripe has counted; if the "
        "difference stays, the month's close bills what the ledger says."
    ),
    "reports_have_been_sent": _(
        "Correct sends a rejected report again, under its own identifier. Remove first what "
        "Stripe complained about."
    ),
}


def of(check: str) -> Promise | str:
    """Return what to do about findings of a check; empty for one that is not asked any more."""
    return ADVICE.get(check, "")
