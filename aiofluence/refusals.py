"""What a refusal means: which error a status and its words are, and what of them may be repeated.

Pure and of no HTTP library; the one table that tells the service's 400s apart by their text is here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import (
    AuthError,
    InsufficientBalanceError,
    InvalidRequestError,
    NotActiveError,
    NotFoundError,
    PlanUnavailableError,
    RateLimitedError,
    RefusedError,
    ReplyError,
    ServerError,
    UnsupportedImageError,
    UpdateInProgressError,
)

_BUSINESS: Final[tuple[tuple[re.Pattern[str], type[ReplyError]], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), error)
    for pattern, error in (
        (r"insufficient (balance|funds)|not enough (balance|funds)", InsufficientBalanceError),
        (r"\b(os[ _-]?image|operating system)\b|\bunsupported image", UnsupportedImageError),
        (r"update .*(in progress|being applied|pending)|already (being )?updat", UpdateInProgressError),
        (r"\b(not|only|isn't|must be) (an? )?active\b|only \W?active", NotActiveError),
        (r"\bplan\b.*(unavailable|no longer|not (available|found)|sold out|not exist)", PlanUnavailableError),
        (r"\bapi[ _-]?key\b", AuthError),
    )
)
"""A 400 says only in prose what it is about. First match wins; no match stays RefusedError."""

_BY_STATUS: Final[Mapping[int, type[ReplyError]]] = {
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    422: InvalidRequestError,
    429: RateLimitedError,
}


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, call: str, hidden: Collection[str]
) -> ReplyError:
    """The error that an answer other than 2xx is.

    Args:
        status: HTTP status.
        headers: of the answer.
        body: of the answer.
        call: method and path of what was asked.
        hidden: texts that the error must not repeat, though the service may.
    """
    said = _parsed(_without(body.decode(errors="replace"), hidden))
    detail = _without(_detail(status, headers, body, said), hidden)
    kind: type[ReplyError]
    if status == 400:
        # The stars may hide the very word that tells: an environment's value is "balance", say.
        plain = _detail(status, headers, body, _parsed(body.decode(errors="replace")))
        kind = next((error for pattern, error in _BUSINESS if pattern.search(plain)), RefusedError)
    elif status >= 500:
        kind = ServerError
    else:
        kind = _BY_STATUS.get(status, ReplyError)
    error = kind(detail, status=status, call=call)
    if isinstance(error, RateLimitedError | ServerError):
        error.retry_after = retry_after(headers)
    elif isinstance(error, InvalidRequestError):
        error.problems = tuple(_problems(said))
    elif isinstance(error, UnsupportedImageError):
        error.options = _options(detail)
    return error


_SECRET_FIELDS: Final = frozenset({"value", "password", "ssh_key", "startup_command"})
_SHORTEST_SECRET: Final = 6
"""Shorter ones hide nothing, and would turn every text into stars."""


def secrets_in(body: bytes) -> list[str]:
    """What the request must not find again in an error: environment values, passwords, keys."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, item in value.items():
                if name in _SECRET_FIELDS and isinstance(item, str):
                    yield item
                yield from walk(item)
        elif isinstance(value, list):
            for item in value:
                yield from walk(item)

    return list(walk(_parsed(body.decode(errors="replace"))))


def _without(text: str, secrets: Collection[str]) -> str:
    """`text` with stars in the place of each secret, longest first, as written and as JSON writes it."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***").replace(json.dumps(secret)[1:-1], "***")
    return text


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


_DETAIL_LENGTH: Final = 2000


def _detail(status: int, headers: Mapping[str, str], body: bytes, said: Any) -> str:
    """The service's own words, else the title of an HTML page, else nothing but the status."""
    if 300 <= status < 400:
        # Scheme and host only: the rest of a redirect's target is no part of a message.
        target = urlsplit(headers.get("Location", ""))
        host = f" to {target.scheme or 'the same'}://{target.hostname}" if target.hostname else ""
        return f"redirected{host}, which is never followed; check base_url"
    if isinstance(said, dict):
        for field in ("detail", "error", "message"):
            if isinstance(said.get(field), str) and said[field]:
                return str(said[field])[:_DETAIL_LENGTH]
        problems = _problems(said)
        if problems:
            return "; ".join(problems)[:_DETAIL_LENGTH]
    page = body[:4096].decode(errors="replace")
    title = re.search(r"<title[^>]*>\s*([^<]{1,200}?)\s*</title>", page, re.IGNORECASE)
    if title:
        return title[1]
    return "no explanation given"


def _problems(said: Any) -> list[str]:
    """One sentence per field of a 422. Its `input` is left out: it echoes what was sent, secrets too."""
    items = said.get("detail") if isinstance(said, dict) else None
    if not isinstance(items, list):
        return []
    fields = (item for item in items if isinstance(item, dict))
    return [f"{_where(field.get('loc'))}{field.get('msg', 'invalid')}" for field in fields]


def _where(loc: Any) -> str:
    if not isinstance(loc, list):
        return ""
    parts = loc[1:] if loc[:1] == ["body"] else loc
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return f"{path}: " if path else ""


def _options(detail: str) -> tuple[str, ...]:
    """The valid images that the text lists behind its last colon, quoted or bare."""
    listed = detail.rpartition(": ")[2]
    quoted = re.findall(r"['\"]([^'\"]+)['\"]", listed)
    bare = [part.strip(" []().'\"") for part in listed.split(",")]
    return tuple(quoted or [part for part in bare if part and part != detail])


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for, None when it is absent or makes no sense.

    An HTTP date is taken relative to the answer's own `Date`, so that no clock here has to be right.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        date, now = http_date(text), http_date(headers.get("Date", ""))
        return None if date is None or now is None else max(0.0, (date - now).total_seconds())
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def http_date(text: str) -> datetime | None:
    """The moment that an HTTP date names, in UTC; None when it names none."""
    try:
        date = parsedate_to_datetime(text)
        # HTTP knows no other zone, and this machine's own has nothing to do with it.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
