"""Signatures of the Standard Webhooks scheme, version v1.

Source:
    standardwebhooks.com: HMAC-SHA256 over `id.timestamp.body`, in base64, after `v1,`; several
    signatures are separated by spaces, so that a secret can be replaced without a gap.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

_PREFIX = "whsec_"
_BYTES = 32
_ID_LENGTH = 12


def new_secret() -> str:
    """Make a secret, in the form in which its owner keeps it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def secret_id(secret: str) -> str:
    """Return what tells secrets apart and gives none away: the start of the text's SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:_ID_LENGTH]


def sign(secret: str, message_id: str, timestamp: int, body: str) -> str:
    """Return one signature.

    Args:
        timestamp: Seconds since 1970.
    """
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers(valid: Sequence[str], message_id: str, timestamp: int, body: str) -> dict[str, str]:
    """Return the headers of a delivery, signed with every secret that is valid now."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(
            sign(secret, message_id, timestamp, body) for secret in valid
        ),
    }
