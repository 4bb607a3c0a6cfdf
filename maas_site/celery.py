"""The Celery applications, named so that `celery -A maas_site.celery:…` finds them."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maas_site.settings")

import django
from celery import Celery
from celery.schedules import crontab

django.setup()

from inference import connections  # noqa: E402  (needs the settings)

# Predictions: at most once, fast.
predict = connections.predict_app()

# Everything else: jobs and light work. The database rows are the truth; messages only ring.
app = Celery("mercato")
app.conf.update(
    connections.SHARED_CONF,
    broker_url=connections.broker_url(connections.JOBS_DB),
    imports=["accounts.tasks", "billing.tasks", "inference.light_tasks", "training.tasks"],
    task_default_queue="light",
    worker_prefetch_multiplier=1,
    beat_schedule={
        name: {"task": task, "schedule": seconds, "options": {"expires": max(seconds, 5)}}
        for name, task, seconds in [
            ("settle", "billing.settle", 1.0),
            ("expire-holds", "billing.expire_holds", 5.0),
            ("announce-prices", "billing.announce_prices", 30.0),
            ("forget-quotes", "billing.forget_quotes", 3600.0),
            ("handle-webhooks", "billing.handle_webhooks", 2.0),
            ("backfill-webhooks", "billing.backfill_webhooks", 86400.0),
            ("release-earnings", "billing.release_earnings", 3600.0),
            ("pay-publishers", "billing.pay_publishers", 600.0),
            ("reload-credit", "billing.reload_credit", 5.0),
            ("follow-payments", "billing.follow_payments", 60.0),
            ("resume-refunds", "billing.resume_refunds", 60.0),
            ("report-usage", "billing.report_usage", 30.0),
            ("close-months", "billing.close_months", 60.0),
            ("look-at-invoices", "billing.look_at_invoices", 3600.0),
            ("forget-predictions", "inference.forget_predictions", 300.0),
            ("sweep-batch-files", "inference.sweep_batch_files", 3.0),
            ("forget-batch-files", "inference.forget_batch_files", 600.0),
            ("sweep-predictions", "inference.sweep_predictions", 2.0),
            ("tell-owners", "billing.tell_owners", 5.0),
            ("send-mail", "accounts.send_mail", 5.0),
            ("forget-answers", "accounts.forget_answers", 3600.0),
            ("send-webhooks", "inference.send_webhooks", 2.0),
            ("watch-canaries", "inference.watch_canaries", 5.0),
            ("reap-queues", "inference.reap_queues", 2.0),
            ("sweep-jobs", "training.sweep", 3.0),
            ("forget-training-folders", "training.forget_folders", 3600.0),
        ]
    }
    | {
        # At night (UTC), when little is under way.
        "reconcile": {
            "task": "billing.reconcile",
            "schedule": crontab(hour="3", minute="10"),
            "options": {"expires": 6 * 3600},
        }
    },
)
app.set_default()
