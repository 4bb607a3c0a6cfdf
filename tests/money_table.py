"""Which test proves which rule of money, and keeps which bug of other systems away.

`python -m tests.money_table` prints the tables of docs/money.md; tests/test_docs.py compares them.
A test says what it proves at the beginning of its docstring: `Invariant 3, 6; regression 2: …`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INVARIANTS: Mapping[int, str] = {
    1: "Entries of a transaction sum to zero; so does the trial balance",
    2: "A sealed transaction cannot be changed, not even by SQL",
    3: "posted + held never passes the cap, however calls interleave",
    4: "All nested caps or none",
    5: "A charge is at most what was set aside; what is above is written off",
    6: "held is the sum of what is set aside and not settled",
    7: "A hold ends once",
    8: "A wallet falls below zero only by what was taken back",
    9: "A task that is delivered again changes nothing",
    10: "A worker that was given up is billed nothing, and that is on record",
    11: "Killed at any named line, the totals end up the same",
    12: "Webhooks twice and in any order give the same ledger",
    13: "A webhook that failed is tried until it succeeds",
    14: "A payment credits once, whoever tells of it",
    15: "What is not paid credits nothing",
    16: "Another amount, currency or customer credits nothing and is found",
    17: "What is clawed back never passes what was credited, and comes back when won",
    18: "A price change does not touch what was admitted before it",
    19: "Rating again what is stored gives the same cost",
    20: "Shares sum to the cost; payouts and the rest sum to what is payable",
    21: "Reports to the meter sum to the usage, however it is cut",
    22: "An identifier counts once at the meter; nothing is sent again unseen",
    23: "After any fault the meter says what the ledger says",
    24: "Usage falls into one window and one invoice at any boundary",
    25: "Lines sum to totals, in currencies with 0, 2 and 3 decimals",
    26: "Invoice numbers have no gap and no twin",
    27: "An invoice does not change when prices or names do",
    28: "An Idempotency-Key gives one effect and one answer",
    29: "A cap may be lowered below what is used: running calls finish",
    30: "Leases: not used, see below",
    31: "Leases: not used, see below",
    32: "Settling twice or at once is settling once; locks never cross",
    33: "Hourly sums are the usage, and can be made again",
    34: "A payout is paid exactly once through any fault",
    35: "Nobody credits or sees another organization",
    36: "No floating point in money",
    37: "Reconciliation finds every single corruption",
    38: "One bad row does not stop the others",
    39: "A caller that goes away is charged for what ran",
    40: "What is free is counted and touches no money",
    41: "Both databases give the same ledger for the same history",
    42: "Nothing of the Stripe SDK leaves its package",
}
REGRESSIONS: Mapping[int, tuple[str, str]] = {
    1: ("new-api#6609, one-api#2440", "check, then unconditional decrement"),
    2: ("litellm#27639, #29493", "holds that leak on some paths"),
    3: ("litellm#30330", "a hold that is only an increment of a counter"),
    4: ("litellm#30460, #36926, #40050", "a second counter that drifts"),
    5: ("litellm#35569, #35570", "marked as applied without being applied"),
    6: ("litellm#34733", "a window reset that loses spend"),
    7: ("litellm#32618", "a queue that is emptied before the write"),
    8: ("litellm#26672, #6288", "caps that are looked at afterwards"),
    9: ("litellm#14457, #13245, #33736, #36008", "a client that goes away"),
    10: ("litellm#37992", "a zero that is taken for missing"),
    11: ("litellm#27989, latitude-llm#3463", "deadlocks of unordered batches"),
    12: ("openmeter#5118", "a key claimed before the write"),
    13: ("openmeter#4252, #1408", "a grant applied twice at a boundary"),
    14: ("lago-api#3618, #2664", "settled twice within milliseconds"),
    15: ("lago-api#3703", "paid, failed, voided: credits that double"),
    16: ("lago-api#4642", "wallet and invoice a cent apart"),
    17: ("lago-api#1962", "many pending top-ups"),
    18: ("langfuse#15917", "meter events without an identifier"),
    19: ("langfuse#16292", "a duplicate taken for a failure"),
    20: ("opencomputer#276", "a second path without an identifier"),
    21: ("Vexa#330, #350", "a fresh id per attempt"),
    22: ("opencode#28402, llmgateway#1713, pollinations#10621", "checkout told twice, paid twice"),
    23: ("LibreChat#13812", "seen before it succeeded"),
    24: ("one-api#355", "paid in one transaction, credited in another"),
    25: ("sokosumi#1846, #3120", "two events for one payment"),
    26: ("AI-Shipping-Labs#1423, gameserverapp#1216", "payments that arrive later"),
    27: ("eliza#10920, #10997, #11155", "clawbacks that are too much or too little"),
    28: ("eliza#11022, #10327", "a payout debited once and sent twice"),
    29: ("omi#7184", "a rejection replayed for a day"),
    30: ("gumroad#6620, spree#14500", "an unknown outcome sent under a new key"),
    31: ("liberapay#1533, #1546", "one key for two amounts"),
    32: ("treg#159", "test doubles of another shape than the SDK"),
    33: ("dj-stripe#1239, #1267, #1374, #1571", "duplicate events, deadlocks, locked SQLite"),
    34: ("saleor#14648", "webhook and page at once"),
    35: ("killbill#1001, #1060, sentry#84670", "a price change that reprices the past"),
    36: ("otari#407", "no price at the moment of use"),
    37: ("killbill#1856, #1934, chrono-synth-os#434", "two clocks, two time zones"),
    38: ("polar#9090", "the same usage charged several times"),
    39: ("django-plans#118, oscar-invoices#17, vendure-plugins#433", "numbers given twice"),
    40: ("django-hordak#142", "a running total that skips rows in flight"),
    41: ("celery#5935, #3270, #2599, #5306", "a visibility timeout that runs work again"),
    42: ("celery#1628, OasisPlatform#975", "acknowledged although the worker was killed"),
    43: ("matrix-os#1780, #1823", "a sweep that one row stops"),
    44: ("Rustchain#6643, laravel-wallet#124", "a balance not read again after the lock"),
    45: ("jentic-one#529, #537, wagtail#14361", "SQLite that does not wait"),
}
# Leases were not built: see "Why there are no leases" in docs/money.md.
WITHOUT_TEST = {30, 31}
_SAID = re.compile(r"\b(invariant|regression)s? (\d+(?:(?:, | and )\d+)*)", re.IGNORECASE)

Proofs = dict[int, list[str]]


def collect() -> tuple[Proofs, Proofs]:
    """Return invariant → tests and regression → tests, as `tests/file.py::name`."""
    found: dict[str, Proofs] = {"invariant": defaultdict(list), "regression": defaultdict(list)}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, docstring in _docstrings(path):
            first = docstring.split("\n\n")[0]
            for kind, numbers in _SAID.findall(first):
                for number in re.findall(r"\d+", numbers):
                    place = f"{path.relative_to(ROOT)}::{name}"
                    known = found[kind.lower()][int(number)]
                    if place not in known:
                        known.append(place)
    return found["invariant"], found["regression"]


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            docstring = ast.get_docstring(node)
            if docstring and node.name.lower().startswith("test"):
                yield node.name, docstring


def render() -> str:
    """Return both tables as Markdown."""
    invariants, regressions = collect()
    lines = ["| # | invariant | tests |", "|---|---|---|"]
    for number, text in INVARIANTS.items():
        lines.append(f"| {number} | {text} | {_tests(invariants.get(number, []))} |")
    lines += ["", "| # | where | what broke there | tests |", "|---|---|---|---|"]
    for number, (where, text) in REGRESSIONS.items():
        lines.append(f"| {number} | {where} | {text} | {_tests(regressions.get(number, []))} |")
    return "\n".join(lines)


def _tests(places: list[str]) -> str:
    return "<br>".join(f"`{place}`" for place in places) or "none"


if __name__ == "__main__":
    print(render())  # noqa: T201  (its purpose)
