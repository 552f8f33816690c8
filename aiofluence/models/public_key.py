"""Check of one public SSH key before it is sent.

Pure. No function quotes the text, because it may be a private key by mistake.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

_PRIVATE: Final = ("PRIVATE KEY", "PUTTY-USER-KEY-FILE", "B3BLBNNZAC1RZXKTDJE")
"""Upper-case marks of a private key: PEM, PuTTY, and `openssh-key-v1` in bare Base64."""


def public_key_problem(text: object) -> str | None:
    """Return the reason for which `text` is not one line `type base64 [comment]`, or None if it is.

    There is no list of types, so that new types pass. Instead, the Base64 must begin with the same type (RFC
    4253, 6.6).
    """
    if not isinstance(text, str) or not text.strip():
        return "must be the text of a public key"
    given = text.strip()
    if any(mark in given.upper() for mark in _PRIVATE):
        return "this is a private key; send the public one (the file that ends in .pub)"
    lines = given.splitlines()
    if len(lines) > 1:
        return f"{len(lines)} lines; a public key is one line, such as 'ssh-ed25519 AAAA... name'"
    words = given.split()
    if len(words) == 1:
        if words[0][0] in "~./" or words[0].endswith(".pub") or "/" in words[0].partition("AAAA")[0]:
            return "this is the path of a file; give the text that is in the file"
        return "a public key is a type and a key, such as 'ssh-ed25519 AAAA...'; one of them is missing"
    kind, encoded = words[:2]
    if not all(char.isprintable() for word in words for char in word):
        return "has characters that cannot be printed"
    named = kind.encode()
    named = len(named).to_bytes(4, "big") + named
    if encoded.endswith("...") and encoded.startswith(_beginning(named)):
        return None  # the service's published requests shorten keys like this
    try:
        blob = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (ValueError, binascii.Error):
        blob = b""
    if not blob:
        return "this is no public key: the second word is not Base64"
    if not blob.startswith(named):
        return "this is no public key: its type and its Base64 do not agree"
    return None


def _beginning(blob: bytes) -> str:
    """Return the Base64 that every longer blob with this beginning starts with."""
    return base64.b64encode(blob).decode()[: len(blob) * 8 // 6]
