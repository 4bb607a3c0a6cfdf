from django.db import migrations
from django.db.models import Sum
from django.db.models.functions import Coalesce


def open_wallets(apps, editor):
    """What an organization has now becomes paid credit: of what was given, nobody knows the rest."""
    Budget = apps.get_model("billing", "Budget")
    Entry = apps.get_model("billing", "LedgerEntry")
    Wallet = apps.get_model("billing", "Wallet")
    for budget in Budget.objects.filter(lock_rank=3):
        credit = Entry.objects.filter(account__code=f"tenant:{budget.organization_id}:credit")
        paid = -credit.aggregate(sum=Coalesce(Sum("amount_nanos"), 0))["sum"]
        Wallet.objects.get_or_create(
            organization_id=budget.organization_id,
            defaults={"currency": budget.currency, "paid_nanos": paid},
        )


def seal(apps, editor):
    """Chain what was booked before there were seals, in the order in which it was booked."""
    from billing import chains, finished, ledger

    Book = apps.get_model("billing", "LedgerBook")
    Settlement = apps.get_model("billing", "Settlement")
    Transaction = apps.get_model("billing", "LedgerTransaction")
    heads = {}
    for settlement in Settlement.objects.order_by("pk"):
        owner = settlement.organization_id
        heads[owner] = chains.of_settlement(
            heads.get(owner, ""), finished.of_settlement(settlement.pk)
        )
        Settlement.objects.filter(pk=settlement.pk).update(digest=heads[owner])
        Transaction.objects.filter(settlement=settlement).update(
            details={"charges": settlement.hold_count, "digest": heads[owner]}
        )
    for booked in Transaction.objects.filter(is_sealed=False).order_by("pk"):
        book, _ = Book.objects.get_or_create(organization_id=booked.organization_id or 0)
        booked.number, booked.previous_hash = book.length + 1, book.head
        entries = [(line.account.code, line.amount_nanos) for line in booked.entries.all()]
        booked.hash, booked.is_sealed = ledger.digest(booked, entries), True
        booked.save()
        book.length, book.head = booked.number, booked.hash
        book.save()


def give_earnings(apps, editor):
    """What publishers had earned before earnings had rows of their own."""
    Earning = apps.get_model("billing", "Earning")
    Entry = apps.get_model("billing", "LedgerEntry")
    lines = Entry.objects.filter(
        account__code__startswith="publisher:", transaction__settlement__isnull=False
    )
    for line in lines.select_related("account", "transaction__settlement"):
        Earning.objects.get_or_create(
            publisher_id=line.account.organization_id,
            settlement=line.transaction.settlement,
            defaults={"amount_nanos": -line.amount_nanos},
        )


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_money_that_can_be_trusted")]

    operations = [
        migrations.RunPython(open_wallets, migrations.RunPython.noop),
        migrations.RunPython(seal, migrations.RunPython.noop),
        migrations.RunPython(give_earnings, migrations.RunPython.noop),
    ]
