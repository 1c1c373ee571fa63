"""How webhooks are signed: the symmetric scheme of the Standard Webhooks specification."""

from __future__ import annotations

import base64
import binascii
import hmac

# The specification's bounds for a key.
_KEY_BYTES = range(24, 65)


def signing_key(secret: str) -> bytes:
    """The key in a secret `whsec_...`.

    Raises ValueError, with what it must be, if it is none.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith("whsec_") or len(key) not in _KEY_BYTES:
        raise ValueError("Must be whsec_ and the base64 text of 24 to 64 random bytes.")
    return key


def signature(key: bytes, webhook_id: str, timestamp: int, content: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = f"{webhook_id}.{timestamp}.".encode() + content
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
