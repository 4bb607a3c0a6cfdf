"""Which addresses webhooks may go to: never into our own network, however it is written.

The name is resolved once and the connection goes to the address that was checked, so an answer of
the name server that changes in between (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from inference.errors import WebhookUrlError

MAX_LENGTH = 500
_PORTS = {443, 8443}
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# What Python calls global but leads somewhere else, and services of clouds that give out secrets.
_NEVER = [
    ipaddress.ip_network(text)
    for text in (
        *("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "192.88.99.0/24"),
        *("168.63.129.16/32", "100.64.0.0/10", "192.0.0.0/24", "fd00:ec2::/32", "0.0.0.0/8"),
    )
]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook goes, taken apart."""

    is_tls: bool
    host: str
    port: int
    # With the query.
    path: str

    @property
    def authority(self) -> str:
        """The header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def is_development() -> bool:
    """Whether the site serves one machine alone: receivers on it may be without TLS."""
    public = urlsplit(settings.PUBLIC_URL)
    return settings.IS_LOOPBACK and public.scheme == "http" and public.hostname in _LOOPBACK_NAMES


def parse(url: str) -> Target:
    """Take a URL apart and check all that can be checked without asking for its address.

    Raises:
        WebhookUrlError: Saying what is wrong.
    """
    if (
        len(url) > MAX_LENGTH
        or not url.isascii()
        or any(sign <= " " or sign in "\\\x7f" for sign in url)
    ):
        raise WebhookUrlError(
            f"A URL has at most {MAX_LENGTH} plain ASCII characters. Write other letters of a "
            "host name as xn--…",
            param="url",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise WebhookUrlError("This is not a URL.", param="url") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _schemes():
        raise WebhookUrlError("The URL must begin with https://", param="url")
    if not host or "%" in host or "@" in parts.netloc or parts.fragment:
        raise WebhookUrlError(
            "The URL needs a host, and may have neither a user nor a fragment.", param="url"
        )
    is_tls = parts.scheme == "https"
    port = port or (443 if is_tls else 80)
    if port not in _PORTS and not _is_relaxed():
        raise WebhookUrlError("The port must be 443 or 8443.", param="url")
    literal = _literal(host)
    if literal is not None and not is_allowed(literal):
        raise WebhookUrlError("This address cannot be reached from here.", param="url")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(is_tls=is_tls, host=host, port=port, path=path)


def _is_relaxed() -> bool:
    return settings.PRIVATE_WEBHOOKS or is_development()


def _schemes() -> set[str]:
    return {"https", "http"} if _is_relaxed() else {"https"}


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def resolve(target: Target) -> str:
    """Return the address to connect to.

    Raises:
        OSError: The name has no address.
        WebhookUrlError: One of its addresses is not allowed.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    # A name with one good and one bad address is a trick.
    if not addresses or not all(is_allowed(ipaddress.ip_address(each)) for each in addresses):
        raise WebhookUrlError("This address cannot be reached from here.", param="url")
    return addresses[0]


def is_allowed(address: Address) -> bool:
    """Whether a connection to an address is allowed."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_multicast or address.is_link_local or address.is_unspecified:
        return False
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    if address.is_loopback:
        return _is_relaxed()
    return address.is_global or (settings.PRIVATE_WEBHOOKS and address.is_private)
