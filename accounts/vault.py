"""Secrets that the site must be able to read again, encrypted in the database.

The key comes from SECRET_KEY: a copy of the database alone opens nothing.
"""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class VaultError(ValueError):
    """The secret was sealed with another SECRET_KEY, or was changed."""


def seal(secret: str) -> str:
    """Encrypt a secret for the database."""
    return _cipher().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Return a secret of the database.

    Raises:
        VaultError: It cannot be read with the SECRET_KEY of now, nor with those before.
    """
    try:
        return _cipher().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise VaultError("A stored secret cannot be read with this SECRET_KEY.") from error


def _cipher() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_derive(key)) for key in keys])


def _derive(key: str | bytes) -> bytes:
    material = key.encode() if isinstance(key, str) else key
    made = HKDF(SHA256(), length=32, salt=None, info=b"mercato vault").derive(material)
    return base64.urlsafe_b64encode(made)
