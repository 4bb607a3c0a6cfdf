import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


def keep_last_attempts(apps, schema_editor):
    """What was known of each delivery's last attempt is the first row of its log."""
    deliveries = apps.get_model('inference', 'WebhookDelivery').objects
    attempts = apps.get_model('inference', 'WebhookAttempt').objects
    known = deliveries.exclude(attempted_at=None).order_by('pk').only(
        'pk', 'attempted_at', 'response_status', 'response_excerpt', 'response_ms', 'failure'
    )
    attempts.bulk_create(
        (
            attempts.model(
                delivery_id=each.pk,
                attempted_at=each.attempted_at,
                status=each.response_status,
                failure=each.failure,
                milliseconds=each.response_ms or 0,
                excerpt=each.response_excerpt,
            )
            for each in known.iterator()
        ),
        batch_size=500,
    )


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0010_shadows'),
    ]

    operations = [
        migrations.CreateModel(
            name='WebhookAttempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attempted_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('status', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('failure', models.CharField(blank=True, max_length=40)),
                ('milliseconds', models.PositiveIntegerField()),
                ('excerpt', models.CharField(blank=True, max_length=1000)),
                ('secret_ids', models.JSONField(default=list)),
                ('delivery', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='log', to='inference.webhookdelivery')),
            ],
            options={
                'ordering': ['pk'],
            },
        ),
        migrations.RunPython(keep_last_attempts, migrations.RunPython.noop),
        migrations.RemoveField(
            model_name='webhookdelivery',
            name='attempted_at',
        ),
        migrations.RemoveField(
            model_name='webhookdelivery',
            name='response_excerpt',
        ),
        migrations.RemoveField(
            model_name='webhookdelivery',
            name='response_ms',
        ),
        migrations.RemoveField(
            model_name='webhookdelivery',
            name='response_status',
        ),
    ]
