"""The fake's invoices: drafts for an hour, then final, then paid from the saved card."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from billing.stripe.fake import metering, payments
from billing.stripe.fake.events import emit
from billing.stripe.fake.money import give_back
from billing.stripe.fake.routes import Refusal, need, page, route
from billing.stripe.fake.store import Body, World

_DRAFT_SECONDS = 3600


def _new(world: World, given: Body, lines: list[Body], *, due: int | None) -> Body:
    name = world.new_id("in")
    invoice = {
        "id": name,
        "object": "invoice",
        "status": "draft",
        "number": None,
        "subtotal": 0,
        "total": 0,
        "amount_due": 0,
        "amount_paid": 0,
        "amount_remaining": 0,
        "total_taxes": [],
        "auto_advance": True,
        "parent": None,
        "due_date": None,
        "status_transitions": {"finalized_at": None, "paid_at": None, "voided_at": None},
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "lines": _as_list(lines, f"/v1/invoices/{name}/lines"),
        "period_start": world.now,
        "period_end": world.now,
        "description": None,
        "metadata": {},
        "credited": 0,
        "payment_intent_id": None,
        **given,
    }
    return world.add(_added_up(invoice), due=due, label=given["customer"])


def _as_list(lines: list[Body], path: str) -> Body:
    return {"object": "list", "data": lines, "has_more": False, "url": path}


def _added_up(invoice: Body) -> Body:
    subtotal = sum(line["amount"] for line in invoice["lines"]["data"])
    total = max(0, subtotal) + sum(each["amount"] for each in invoice["total_taxes"])
    left = max(0, total - invoice["amount_paid"])
    return invoice | {
        "subtotal": subtotal,
        "total": total,
        "amount_due": total,
        "amount_remaining": left,
    }


def _line(world: World, currency: str, amount: int, text: str, start: int, end: int) -> Body:
    return {
        "id": world.new_id("il"),
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": text,
        "quantity": 1,
        "quantity_decimal": "1",
        "pricing": None,
        "subscription": None,
        "period": {"start": start, "end": end},
        "livemode": False,
        "metadata": {},
    }


def draft(world: World, subscription: Body, *, until: int) -> Body:
    """Make the invoice of a period; it stays a draft for an hour."""
    lines = []
    for item in subscription["items"]["data"]:
        price, start = item["price"], item["current_period_start"]
        line = _line(world, price["currency"], 0, "Usage", start, until)
        lines.append(
            line
            | {
                "subscription": subscription["id"],
                "pricing": {
                    "type": "price_details",
                    "price_details": {"price": price["id"], "product": price["product"]},
                    "unit_amount_decimal": price["unit_amount_decimal"],
                },
            }
        )
    invoice = _new(
        world,
        {
            "customer": subscription["customer"],
            "currency": subscription["currency"],
            "parent": {
                "type": "subscription_details",
                "quote_details": None,
                "subscription_details": {"subscription": subscription["id"], "metadata": {}},
            },
            "period_start": lines[0]["period"]["start"],
            "period_end": until,
        },
        lines,
        due=world.now + _DRAFT_SECONDS,
    )
    invoice = _counted(world, invoice)
    emit(world, "invoice.created", invoice)
    return invoice


def _counted(world: World, invoice: Body) -> Body:
    """Count what was used again: usage of a period may arrive while its invoice is a draft."""
    if invoice["status"] != "draft":
        return invoice
    for line in invoice["lines"]["data"]:
        if not line["pricing"]:
            continue
        price = need(world, line["pricing"]["price_details"]["price"], "price")
        meter = need(world, price["recurring"]["meter"], "billing.meter")
        period = line["period"]
        count = metering.used(
            world, meter["event_name"], invoice["customer"], period["start"], period["end"]
        )
        amount = Decimal(max(0, count)) * Decimal(price["unit_amount_decimal"])
        line["quantity"], line["quantity_decimal"] = count, str(count)
        line["amount"] = int(amount.quantize(Decimal(1), ROUND_HALF_UP))
    due = invoice["created"] + _DRAFT_SECONDS if invoice["auto_advance"] else None
    return world.save(_added_up(invoice), due=due)


def advance(world: World, invoice: Body) -> None:
    """Make a draft final when its hour is over, and collect it."""
    if invoice["auto_advance"]:
        finalize(world, invoice)
    else:
        world.save(invoice)


def finalize(world: World, invoice: Body) -> Body:
    """Give a draft its number; collect it if it is to be collected."""
    invoice = _counted(world, invoice)
    number = world.fact("invoice_number", 0) + 1
    world.set_fact("invoice_number", number)
    invoice |= {
        "status": "open",
        "number": f"FAKE-{number:04d}",
        "hosted_invoice_url": f"{world.site}/dev/stripe/invoice/{invoice['id']}",
    }
    invoice["status_transitions"]["finalized_at"] = world.now
    world.save(invoice)
    emit(world, "invoice.finalized", invoice)
    return collect(world, invoice) if invoice["auto_advance"] else invoice


def collect(world: World, invoice: Body) -> Body:
    """Charge the saved card; a refusal leaves the invoice open."""
    if invoice["amount_remaining"] == 0:
        return _paid(world, invoice)
    owner = need(world, invoice["customer"], "customer")
    card = world.find(owner["invoice_settings"]["default_payment_method"] or "", "payment_method")
    try:
        if card is None:
            raise Refusal("This customer has no attached payment source.")
        intent = payments.new_intent(
            world,
            {
                "amount": invoice["amount_remaining"],
                "currency": invoice["currency"],
                "customer": owner["id"],
                "metadata": {},
                "description": f"Invoice {invoice['number']}",
            },
        )
        payments.pay(world, intent, card)
    except Refusal:
        world.save(invoice)
        emit(world, "invoice.payment_failed", invoice)
        return invoice
    return _paid(world, invoice | {"payment_intent_id": intent["id"]})


def _paid(world: World, invoice: Body) -> Body:
    invoice |= {
        "status": "paid",
        "amount_paid": invoice["amount_due"],
        "amount_remaining": 0,
        "auto_advance": False,
    }
    invoice["status_transitions"]["paid_at"] = world.now
    world.save(invoice)
    emit(world, "invoice.paid", invoice)
    return invoice


def paid_by_checkout(world: World, session: Body) -> Body:
    """Make the invoice that a payment page was asked to write, already paid."""
    text = session["payment_intent_data"].get("description") or "Payment"
    line = _line(world, session["currency"], session["amount_subtotal"], text, world.now, world.now)
    tax = session["total_details"]["amount_tax"]
    invoice = _new(
        world,
        {
            "customer": session["customer"],
            "currency": session["currency"],
            "total_taxes": [{"amount": tax, "tax_behavior": "exclusive"}] if tax else [],
            "auto_advance": False,
            "metadata": session["metadata"],
            "payment_intent_id": session["payment_intent"],
        },
        [line],
        due=None,
    )
    emit(world, "invoice.created", invoice)
    return _paid(world, finalize(world, invoice))


@route("GET", "/v1/invoices/{invoice}", "InvoiceRetrieveParams")
def retrieve_invoice(world: World, given: Body, invoice: str) -> Body:
    """Return an invoice."""
    return _counted(world, need(world, invoice, "invoice"))


@route("GET", "/v1/invoices", "InvoiceListParams")
def list_invoices(world: World, given: Body) -> Body:
    """List invoices."""
    found = [_counted(world, each) for each in world.newest("invoice", given.get("customer", ""))]
    if wanted := given.get("subscription"):
        found = [each for each in found if _subscription(each) == wanted]
    if wanted := given.get("status"):
        found = [each for each in found if each["status"] == wanted]
    return page(found, given, "/v1/invoices")


def _subscription(invoice: Body) -> str | None:
    parent = invoice["parent"]
    return str(parent["subscription_details"]["subscription"]) if parent else None


@route("GET", "/v1/invoices/{invoice}/lines", "InvoiceLineItemListParams")
def list_lines(world: World, given: Body, invoice: str) -> Body:
    """List the lines of an invoice."""
    lines = _counted(world, need(world, invoice, "invoice"))["lines"]["data"]
    return page([line | {"created": 0} for line in lines], given, f"/v1/invoices/{invoice}/lines")


@route("POST", "/v1/invoices/{invoice}", "InvoiceUpdateParams")
def update_invoice(world: World, given: Body, invoice: str) -> Body:
    """Change a draft; of a final invoice only the labels."""
    found = need(world, invoice, "invoice")
    if found["status"] != "draft" and given.keys() - {"metadata", "expand"}:
        raise Refusal("This invoice is final and cannot be changed.", code="invoice_not_editable")
    labels = found["metadata"] | given.pop("metadata", {})
    changed = {name: value for name, value in given.items() if name in found}
    world.save(found | changed | {"metadata": labels})
    return _counted(world, need(world, invoice, "invoice"))


@route("POST", "/v1/invoiceitems", "InvoiceItemCreateParams")
def add_item(world: World, given: Body) -> Body:
    """Add a line to a draft."""
    found = need(world, given.get("invoice", ""), "invoice")
    need(world, given["customer"], "customer")
    if found["status"] != "draft":
        raise Refusal("This invoice is final and cannot be changed.", code="invoice_not_editable")
    text = given.get("description") or ""
    period = (found["period_start"], found["period_end"])
    line = _line(world, given["currency"], given["amount"], text, *period)
    found["lines"]["data"].append(line)
    _counted(world, found)
    return world.add(
        {
            "id": world.new_id("ii"),
            "object": "invoiceitem",
            "invoice": found["id"],
            "customer": given["customer"],
            "amount": given["amount"],
            "currency": given["currency"],
            "description": text,
        }
    )


@route("GET", "/v1/invoice_payments", "InvoicePaymentListParams")
def list_payments(world: World, given: Body) -> Body:
    """List what has paid an invoice, or the invoice that a payment has paid."""
    if "payment" in given:
        wanted = given["payment"]["payment_intent"]
        found = world.newest("invoice", keep=lambda each: each["payment_intent_id"] == wanted)
    else:
        found = [need(world, given.get("invoice", ""), "invoice")]
    paid = [_payment(each) for each in found if each["payment_intent_id"]]
    return page(paid, given, "/v1/invoice_payments")


def _payment(invoice: Body) -> Body:
    return {
        "id": f"inpay_{invoice['id']}",
        "object": "invoice_payment",
        "invoice": invoice["id"],
        "amount_paid": invoice["amount_paid"],
        "status": "paid",
        "payment": {"type": "payment_intent", "payment_intent": invoice["payment_intent_id"]},
        "created": invoice["created"],
    }


@route("POST", "/v1/invoices/{invoice}/finalize", "InvoiceFinalizeInvoiceParams")
def finalize_invoice(world: World, given: Body, invoice: str) -> Body:
    """Make a draft final."""
    found = need(world, invoice, "invoice")
    if found["status"] != "draft":
        raise Refusal("This invoice is final already.", code="invoice_not_editable")
    return finalize(world, found | {"auto_advance": given.get("auto_advance", True)})


@route("POST", "/v1/invoices/{invoice}/void", "InvoiceVoidInvoiceParams")
def void_invoice(world: World, given: Body, invoice: str) -> Body:
    """Declare an open invoice void."""
    found = need(world, invoice, "invoice")
    if found["status"] != "open":
        raise Refusal("Only open invoices can be voided.", code="status_transition_invalid")
    found |= {"status": "void", "amount_remaining": 0}
    world.save(found)
    emit(world, "invoice.voided", found)
    return found


@route("POST", "/v1/credit_notes", "CreditNoteCreateParams")
def create_credit_note(world: World, given: Body) -> Body:
    """Correct a final invoice, by at most what is left of it."""
    invoice = need(world, given["invoice"], "invoice")
    amount = given.get("amount", 0)
    parts = {k: given.get(k, 0) for k in ("refund_amount", "credit_amount", "out_of_band_amount")}
    if invoice["status"] not in {"open", "paid"}:
        raise Refusal("Credit notes can only be created for open or paid invoices.")
    if not 0 < amount <= invoice["total"] - invoice["credited"]:
        raise Refusal("The credit note's amount is more than what is left of the invoice.")
    if invoice["status"] == "paid" and sum(parts.values()) != amount:
        raise Refusal("The sum of credit, refund and out of band must be the note's amount.")
    note = world.add(_note(world, invoice, given, amount), label=invoice["id"])
    if parts["refund_amount"]:
        intent = need(world, invoice["payment_intent_id"] or "", "payment_intent")
        charge = need(world, intent["latest_charge"] or "", "charge")
        give_back(world, charge, parts["refund_amount"], {}, "succeeded")
    invoice["credited"] += amount
    if invoice["status"] == "open":
        invoice["amount_remaining"] -= amount
    world.save(invoice)
    emit(world, "credit_note.created", note)
    if invoice["status"] == "open" and invoice["amount_remaining"] == 0:
        _paid(world, invoice)
    return note


def _note(world: World, invoice: Body, given: Body, amount: int) -> Body:
    count = len(world.newest("credit_note", invoice["id"])) + 1
    return {
        "id": world.new_id("cn"),
        "object": "credit_note",
        "number": f"{invoice['number']}-CN-{count:02d}",
        "status": "issued",
        "invoice": invoice["id"],
        "customer": invoice["customer"],
        "currency": invoice["currency"],
        "amount": amount,
        "total": amount,
        "reason": given.get("reason"),
        "memo": given.get("memo"),
        "pdf": "",
        "metadata": given.get("metadata", {}),
    }


@route("GET", "/v1/credit_notes/{note}", "CreditNoteRetrieveParams")
def retrieve_credit_note(world: World, given: Body, note: str) -> Body:
    """Return a credit note."""
    return need(world, note, "credit_note")


@route("GET", "/v1/credit_notes", "CreditNoteListParams")
def list_credit_notes(world: World, given: Body) -> Body:
    """List credit notes."""
    return page(world.newest("credit_note", given.get("invoice", "")), given, "/v1/credit_notes")
