"""Mail that was written to files, readable in the browser on one's own machine only."""

from __future__ import annotations

import email
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
FILE_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
NEWEST = 30
# What Django writes after each message of a file.
_SEPARATOR = b"-" * 79 + b"\n"


@dataclass(frozen=True, slots=True)
class Mail:
    """One message."""

    sent_at: datetime
    sender: str
    to: str
    subject: str
    text: str


def is_shown(request: HttpRequest) -> bool:
    """Whether mail may be read in the browser: it holds links that open accounts.

    Bound to loopback is not enough: a proxy on the same machine may show the site to everybody.
    """
    try:
        asked = urlsplit(f"//{request.get_host()}").hostname
    except DisallowedHost:
        # Also asked while the page about the wrong host is made.
        return False
    hosts = {urlsplit(settings.PUBLIC_URL).hostname, asked}
    is_proxied = bool(request.headers.keys() & {"X-Forwarded-For", "X-Real-Ip", "Forwarded"})
    return (
        settings.IS_LOOPBACK
        and settings.EMAIL_BACKEND == FILE_BACKEND
        and hosts <= LOOPBACK
        and not is_proxied
    )


@never_cache
@require_GET
def dev_mail(request: HttpRequest) -> HttpResponse:
    """Show the newest mail; there is no such page on a site that others can reach."""
    if not is_shown(request):
        raise Http404
    mails = newest(Path(settings.EMAIL_FILE_PATH), NEWEST)
    return render(request, "dev_mail.html", {"mails": mails, "folder": settings.EMAIL_FILE_PATH})


def newest(folder: Path, count: int) -> list[Mail]:
    """Return the newest messages of a folder, newest first."""
    # Names begin with the time: a file per connection, in order.
    files = sorted(folder.glob("*.log"), reverse=True)[:count] if folder.is_dir() else []
    mails = [mail for file in files for mail in _read(file)]
    return sorted(mails, key=lambda mail: mail.sent_at, reverse=True)[:count]


def _read(file: Path) -> list[Mail]:
    return [_mail(part.strip()) for part in file.read_bytes().split(_SEPARATOR) if part.strip()]


def _mail(raw: bytes) -> Mail:
    message = email.message_from_bytes(raw, policy=policy.default)
    body = message.get_body(("plain",))
    return Mail(
        sent_at=parsedate_to_datetime(message["Date"]),
        sender=str(message["From"]),
        to=str(message["To"]),
        subject=str(message["Subject"]),
        text=body.get_content() if body else "",
    )
