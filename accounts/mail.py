"""Mail to people, through an outbox: what happened is told although the mail server is away.

A mail is a row before it is sent. It is claimed with a compare-and-set update, so several senders
do not send it twice; only a process that dies between sending and writing that down can.
"""

from __future__ import annotations

import hashlib
import logging
import smtplib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db.models import F
from django.template.loader import render_to_string
from django.utils import timezone, translation

from accounts.models import Membership, Organization, OutgoingMail, User

logger = logging.getLogger(__name__)
# Mails of one round; a mail server that hangs costs EMAIL_TIMEOUT for each.
BATCH = 20
GIVE_UP_AFTER = timedelta(days=3)
_LONGEST_WAIT = timedelta(hours=3)
_KEPT = timedelta(days=30)


def owners(organization: Organization) -> list[User]:
    """Return who is told about an organization's money."""
    return list(
        User.objects.filter(
            is_active=True,
            memberships__organization=organization,
            memberships__role=Membership.Role.OWNER,
        ).order_by("pk")
    )


def queue(key: str, users: Iterable[User], template: str, context: Mapping[str, Any]) -> int:
    """Put a mail to each person into the outbox, once per key and person; returns how many.

    Args:
        template: Below templates/, without `_subject.txt` and `_message.txt`.
        context: What the templates need, as JSON.
    """
    rows = [
        OutgoingMail(key=f"{key}:{user.pk}", user=user, template=template, context=dict(context))
        for user in users
    ]
    OutgoingMail.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def send_due(limit: int = BATCH) -> int:
    """Send what waits; returns how many were sent. One that fails does not stop the others."""
    now = timezone.now()
    waiting = OutgoingMail.objects.filter(
        sent_at=None, given_up_at=None, next_attempt_at__lte=now
    ).select_related("user")
    return sum(_send(mail, now) for mail in waiting.order_by("next_attempt_at", "pk")[:limit])


def forget() -> int:
    """Delete mails that were sent, or given up, a month ago; returns how many."""
    old = OutgoingMail.objects.filter(created_at__lt=timezone.now() - _KEPT)
    return old.exclude(sent_at=None, given_up_at=None).delete()[0]


def _send(mail: OutgoingMail, now: datetime) -> bool:
    wait = min(timedelta(minutes=1) * 2**mail.attempts, _LONGEST_WAIT)
    claimed = OutgoingMail.objects.filter(
        pk=mail.pk, sent_at=None, next_attempt_at=mail.next_attempt_at
    ).update(attempts=F("attempts") + 1, next_attempt_at=now + wait)
    if not claimed:
        return False
    mine = OutgoingMail.objects.filter(pk=mail.pk)
    try:
        _message(mail).send()
    # SMTP, sockets and files: what a backend of Django raises.
    except (smtplib.SMTPException, OSError) as error:
        given_up_at = now if now - mail.created_at > GIVE_UP_AFTER else None
        mine.update(failure=f"{type(error).__name__}: {error}"[:200], given_up_at=given_up_at)
        logger.warning("mail %s was not sent: %s", mail.key, error)
        return False
    mine.update(sent_at=timezone.now(), failure="")
    return True


def _message(mail: OutgoingMail) -> EmailMessage:
    with translation.override(mail.user.language or settings.LANGUAGE_CODE):
        context = {**mail.context, "public_url": settings.PUBLIC_URL, "user": mail.user}
        subject = render_to_string(f"{mail.template}_subject.txt", context)
        text = render_to_string(f"{mail.template}_message.txt", context)
    # The same on every attempt: a mailbox may drop the second of two.
    number = hashlib.sha256(mail.key.encode()).hexdigest()[:32]
    return EmailMessage(
        subject=settings.ACCOUNT_EMAIL_SUBJECT_PREFIX + " ".join(subject.split()),
        body=text.strip() + "\n",
        to=[mail.user.email],
        headers={"Message-ID": f"<{number}@{urlsplit(settings.PUBLIC_URL).hostname}>"},
        connection=get_connection(),
    )
