"""What the frame around every page shows."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext as _

from accounts import organizations
from accounts.models import User
from billing import budgets, rating
from billing.models import Budget
from catalog.models import PriceVersion

register = template.Library()


@register.simple_tag(takes_context=True)
def wallet(context: dict[str, Any]) -> Budget | None:
    """Return the wallet of the organization the reader acts for; None for a visitor."""
    user = context.get("user")
    if not isinstance(user, User):
        return None
    organization = organizations.of_user(user).first()
    return budgets.wallet(organization) if organization else None


# Nobody knows how much of these a run counts before it is asked for.
_DEPENDS = frozenset({"compute_ms", "input_token", "output_token"})


@register.simple_tag
def run_cost(price: PriceVersion | None) -> int | None:
    """Return what one row costs, in nanos; None where it depends on the run."""
    if price is None or any(item.dimension in _DEPENDS for item in price.components.all()):
        return None
    return rating.rate(rating.plan_of(price), {"row": 1, "call": 1})


@register.simple_tag
def playground_words() -> dict[str, str]:
    """Return what the Playground's scripts say, in the reader's language."""
    return _later_words() | {
        "running": _("Running …"),
        "starting": _("The model is starting: about {seconds} s. That time is free."),
        "succeeded": _("Succeeded in {ms} ms"),
        "failed": _("Not run"),
        "stopped": _("Stopped"),
        "tokens": _("{input} characters read, {output} written"),
        "result": _("Result"),
        "likeliest": _("likeliest"),
        "probability": _("{label}: {percent}"),
        "rows": _("{count} × {price}"),
        "charged": _("Succeeded, charged 100 %"),
        "times": _("Waited {queue} ms, ran {run} ms, in a batch of {batch}"),
        "priceVersion": _("price version {version}"),
        "receipt": _("Receipt"),
        "balance": _("Balance after this run"),
        "request": _("Request"),
        "copy": _("Copy"),
        "copied": _("Copied"),
        "signIn": _("Sign in to run"),
        "seeBalance": _("See your balance"),
        "doSignIn": _("Sign in first. Your input stays here."),
        "doCredit": _("The balance does not cover this run. Nothing was charged."),
        "doCap": _("A spending limit leaves too little. Nothing was charged."),
        "doInput": _("Check the input. Nothing was charged."),
        "doAgain": _("Try again in a moment. Nothing was charged."),
        "doReport": _("Nothing was charged. If it happens again, report the request id."),
        "doModel": _("The model failed on this input. Its policy says what that costs."),
        "doOffline": _("The site did not answer. Look at your usage before you run it again."),
        "badJson": _("This is not JSON: {reason}"),
        "badImage": _("“{name}” must be 28 × 28 numbers from 0 to 1, or a PNG or JPEG data URL."),
        "badNumber": _("“{name}” must be a number."),
        "missing": _("“{name}” is missing."),
        "badFile": _("This file is not a readable PNG or JPEG."),
        "empty": _("Draw a digit or pick an example first."),
    }


def _later_words() -> dict[str, str]:
    """Return what static/js/later.js says: the states of a run in the background, and its ends."""
    return {
        "sending": _("Sending …"),
        "queued": _("It waits for its turn; its money is set aside."),
        "loading": _("A worker loads the model. This is not billed."),
        "processing": _("The model runs."),
        "stepQueued": _("Waiting"),
        "stepRuns": _("Running"),
        "stepResult": _("Result"),
        "endedFailed": _("Failed"),
        "endedCanceled": _("Canceled"),
        "canceling": _("Canceling …"),
        "canceledFree": _("It was canceled. Nothing was charged."),
        "canceledCharged": _("It was canceled. By the model's policy it costs {amount}."),
        "lost": _("The connection is lost. The run goes on; the page looks for it again."),
        "notCanceled": _("It could not be canceled. Try again."),
    }
