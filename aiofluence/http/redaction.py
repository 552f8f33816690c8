"""Stars in place of secrets in the service's words: plain, and as JSON, HTML, URLs and base64 encode them.

A service may repeat parts of a request. A secret that is repeated only in parts cannot be recognised.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

STARS: Final = "***"
_SECRET_FIELDS: Final = frozenset({"value", "password", "ssh_key", "startup_command"})
_LONG: Final = 6
"""Minimum length of a secret to star inside words, too."""
_SHORTEST: Final = 3
"""Minimum length of a secret to star at all: `1` or `on` is in every text, so a star hides nothing."""
_READ: Final = 16_384
"""Number of characters of a text to read."""
_ROUNDS: Final = 2
"""Number of nested encodings to undo."""
_FORMS: Final = 8
"""Number of encodings side by side to undo. A text with more is replaced by stars."""


def secrets_in(body: bytes) -> list[str]:
    """Return a request's texts that no error may repeat: environment values, passwords, keys, commands."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, item in value.items():
                if name in _SECRET_FIELDS and isinstance(item, str):
                    yield item
                yield from walk(item)
        elif isinstance(value, list):
            for item in value:
                yield from walk(item)

    try:
        return list(walk(json.loads(body)))
    except (ValueError, RecursionError):
        return []


def starred(text: str, secrets: Collection[str]) -> str:
    """Return `text` with stars in place of each secret, the longest secrets first.

    If an encoding hides a secret, the text is returned decoded.
    """
    known = sorted({secret.strip() for secret in secrets}, key=len, reverse=True)
    known = [secret for secret in known if len(secret) >= _SHORTEST]
    if not known:
        return text[:_READ]
    cut = len(text) > _READ
    text = _without(text[:_READ], known)
    for _ in range(len(known) + _FORMS):
        decoded = next((form for form in _decoded(text) if _without(form, known) != form), None)
        if decoded is None:
            break
        text = _without(decoded, known)
    else:
        return STARS
    # After a cut, the text may end with the beginning of a secret.
    return text[: -len(known[0])] if cut else text


def _without(text: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        if len(secret) >= _LONG:
            text = text.replace(secret, STARS)
        elif secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", STARS, text)
    return _BASE64.sub(lambda run: STARS if _hides(run[0], secrets) else run[0], text)


_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{8,}")


def _hides(run: str, secrets: Collection[str]) -> bool:
    """Return True if a run of letters and digits is the base64 of a text with a long secret."""
    whole = run[: len(run) // 4 * 4] if len(run) % 4 == 1 else run + "=" * (-len(run) % 4)
    text = base64.b64decode(whole, altchars=b"-_" if "-" in run or "_" in run else b"+/").decode(
        errors="replace"
    )
    return any(secret in text for secret in secrets if len(secret) >= _LONG)


def _decoded(text: str) -> Iterator[str]:
    """Iterate over other forms of `text`, each with possible encodings undone."""
    seen, forms = {text}, [text]
    for _ in range(_ROUNDS):
        forms = [decode(form) for form in forms for decode in _DECODERS]
        forms = [form for form in dict.fromkeys(forms) if form not in seen]
        seen.update(forms)
        yield from forms


_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|U000[0-9A-Fa-f]{5}|x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LONG_NUMBERS: Final = re.compile(r"&#[0-9]{8,};?")


def _from_json(text: str) -> str:
    """Undo the escapes of JSON and of Python reprs."""

    def plain(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 1:
            return _CONTROLS.get(code, code)
        number = int(code[1:], 16)
        return chr(number) if number <= 0x10FFFF else "\ufffd"

    # UTF-16 joins a surrogate pair into one character.
    return _ESCAPE.sub(plain, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def from_html(text: str) -> str:
    """Undo HTML entities."""
    # Python refuses to parse numbers with thousands of digits. No such number is a character.
    return html.unescape(_LONG_NUMBERS.sub("", text))


_DECODERS: Final[tuple[Callable[[str], str], ...]] = (_from_json, from_html, unquote, unquote_plus)
