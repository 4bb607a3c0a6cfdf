from django.db import migrations


class Migration(migrations.Migration):
    """A cap counts money or calls: its columns no longer say that they are nanos."""

    dependencies = [("billing", "0003_hold_newest")]

    operations = [
        migrations.RemoveConstraint("budget", "posted_positive"),
        migrations.RemoveConstraint("budget", "held_positive"),
        migrations.RemoveConstraint("budget", "one_budget_per_window"),
        migrations.RemoveConstraint("budget", "one_key_budget_per_window"),
        migrations.RemoveConstraint("spendlimit", "limit_positive"),
        migrations.RemoveConstraint("spendlimit", "one_limit_per_window"),
        migrations.RemoveConstraint("spendlimit", "one_key_limit_per_window"),
        migrations.RenameField("budget", "capacity_nanos", "capacity"),
        migrations.RenameField("budget", "posted_nanos", "posted"),
        migrations.RenameField("budget", "held_nanos", "held"),
        migrations.RenameField("spendlimit", "amount_nanos", "amount"),
    ]
