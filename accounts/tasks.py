"""What beat asks of accounts; may run twice."""

from __future__ import annotations

import threading

from celery import shared_task

from accounts import idempotency, mail

# A mail server that hangs takes one thread of the light worker, not all.
_sending = threading.Lock()


@shared_task(name="accounts.send_mail")
def send_mail() -> None:
    """Send the mail that waits."""
    if _sending.acquire(blocking=False):
        try:
            mail.send_due()
        finally:
            _sending.release()


@shared_task(name="accounts.forget_answers")
def forget_answers() -> None:
    """Delete what is not kept any longer: answers of repeatable requests, mail."""
    idempotency.forget()
    mail.forget()
