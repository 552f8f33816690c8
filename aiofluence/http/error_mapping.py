"""The error for a refusal, from its status and its text.

Pure, and independent of HTTP libraries. The only table of the service's 400s by their text is here. All
functions take time linear in the length of the reply, and produce bounded output. `messages` loads this
module with the first refusal, since its patterns take time to compile.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from ..errors import (
    AuthError,
    InsufficientBalanceError,
    InvalidRequestError,
    MinimumRuntimeError,
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
from .dates import retry_after
from .redaction import from_html, starred

_BUSINESS: Final[tuple[tuple[re.Pattern[str], re.Pattern[str] | None, type[ReplyError]], ...]] = tuple(
    (re.compile(words, re.IGNORECASE), re.compile(later, re.IGNORECASE) if later else None, error)
    for words, later, error in (
        (r"insufficient (balance|funds)|not enough (balance|funds)", None, InsufficientBalanceError),
        (r"\b(os[ _-]?image|operating system)\b|\bunsupported image", None, UnsupportedImageError),
        (r"\bupdate ", r"in progress|being applied|pending", UpdateInProgressError),
        (r"already (being )?updat", None, UpdateInProgressError),
        (
            r"\bmin(imum|\.)?[ _-]((rental|billing|usage|required|allowed)[ _-])?"
            r"(run[ _-]?time|uptime|life[ _-]?time|duration|period|time)\b"
            r"|\b(run|runs|running|ran|active|up|rented|kept) for (at least|a minimum)\b",
            None,
            MinimumRuntimeError,
        ),
        (r"\b(not|only|isn't|must be) (an? )?active\b|only \W?active", None, NotActiveError),
        (
            r"\bplan\b",
            r"unavailable|no longer|not (available|found)|sold out|not exist",
            PlanUnavailableError,
        ),
        (r"\bapi[ _-]?key\b", None, AuthError),
    )
)
"""Errors of a 400 by its text. The second pattern is searched behind the first match of the first pattern.
The first matching row wins. Without a matching row, the error is a RefusedError."""

_BY_STATUS: Final[Mapping[int, type[ReplyError]]] = {
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    422: InvalidRequestError,
    429: RateLimitedError,
}


_DETAIL_LENGTH: Final = 2000
_PAGE_LENGTH: Final = 65_536
_MANY: Final = 100
"""Maximum number of problems, options or texts to read from one reply."""
_DEEP: Final = 4


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    call: str,
    hidden: Collection[str],
    service_time: datetime | None = None,
) -> ReplyError:
    """Return the error for a reply other than 2xx.

    Args:
        status: HTTP status.
        headers: headers of the reply.
        body: body of the reply.
        call: method and path of the request.
        hidden: texts that the error must not repeat, even if the service does.
        service_time: time at the service, for a `Retry-After` that is a date; None if unknown.
    """
    said = _parsed(body)
    plain = _detail(status, headers, body, said)
    detail = starred(plain, hidden)[:_DETAIL_LENGTH]
    kind: type[ReplyError]
    if status == 400:
        # `plain`, because stars may hide the deciding word: an environment's value may be "balance".
        kind = _subject(plain[:_DETAIL_LENGTH])
    elif status >= 500:
        kind = ServerError
    else:
        kind = _BY_STATUS.get(status, ReplyError)
    error = kind(detail, status=status, call=call)
    if isinstance(error, RateLimitedError | ServerError):
        error.retry_after = retry_after(headers, service_time)
    elif isinstance(error, InvalidRequestError):
        error.problems = tuple(starred(problem, hidden)[:_DETAIL_LENGTH] for problem in _problems(said))
    elif isinstance(error, UnsupportedImageError):
        error.options = _options(detail)
    elif isinstance(error, AuthError):
        error.reason = _key_reason(plain[:_DETAIL_LENGTH])
        if error.reason is not None:
            error.args = (f"{detail}; {_KEY_ADVICE[error.reason]}",)
    elif isinstance(error, MinimumRuntimeError):
        error.retry_after = _time_left(plain[:_DETAIL_LENGTH])
        if error.retry_after is None:
            error.retry_after = retry_after(headers, service_time)
    return error


def _subject(words: str) -> type[ReplyError]:
    for pattern, later, error in _BUSINESS:
        match = pattern.search(words)
        if match and (later is None or later.search(words, match.end())):
            return error
    return RefusedError


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _detail(status: int, headers: Mapping[str, str], body: bytes, said: Any) -> str:
    """Return the service's own words, else the title of an HTML page, else a plain text."""
    if 300 <= status < 400:
        return _redirect(headers.get("Location", ""))
    if said is not None:
        return "; ".join(islice(_words(said), _MANY)) or "no explanation given"
    start = body[:_PAGE_LENGTH]
    if start.lstrip().startswith(b"<"):
        words = from_html(_title(start.decode(errors="replace")))
    else:
        # `start` may end inside a character.
        words = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(start)
        words = "" if "\ufffd" in words else words.strip()
    return words or "no explanation given"


def _redirect(location: str) -> str:
    """Describe a redirect by scheme and host. The rest of its target may hold secrets."""
    host = ""
    try:
        target = urlsplit(location[:_DETAIL_LENGTH])
        if target.hostname:
            host = f" to {target.scheme or 'the same'}://{target.hostname}"
    except ValueError:  # such as http://[::1/
        host = " to an address that is none"
    return f"redirected{host}, which is never followed; check base_url"


def _title(page: str) -> str:
    """Return the title of an HTML page. Plain searches, as a pattern may backtrack on a hostile page."""
    low = page.lower()
    opened = low.find("<title")
    begin = low.find(">", opened) + 1 if opened >= 0 else 0
    end = low.find("</title", begin) if begin else -1
    return page[begin:end].strip() if end >= 0 else ""


def _words(said: Any, depth: int = 0) -> Iterator[str]:
    """Iterate over the texts of an error's JSON: of the fields that state the problem, else of all fields.

    `input` and `ctx` of a 422 are left out: they echo the request, including its secrets.
    """
    if isinstance(said, str):
        if said.strip():
            yield said
    elif isinstance(said, list) and depth < _DEEP:
        for item in said:
            yield from _problems([item]) or _words(item, depth + 1)
    elif isinstance(said, dict) and depth < _DEEP:
        named = [
            said[name] for name in ("detail", "error", "message", "msg", "errors", "title") if said.get(name)
        ]
        for value in named or [value for name, value in said.items() if name not in _ECHOES]:
            words = list(islice(_words(value, depth + 1), _MANY))
            yield from words
            if named and words:
                return


_ECHOES: Final = frozenset({"input", "ctx", "loc", "type", "url"})


def _problems(said: Any) -> list[str]:
    """Return one sentence per field of a 422, without `input`, which echoes the request and its secrets."""
    items = said.get("detail") if isinstance(said, dict) else said
    if not isinstance(items, list):
        return []
    return [
        f"{_where(item.get('loc'))}{item['msg'] if isinstance(item.get('msg'), str) else 'invalid'}"
        for item in items[:_MANY]
        if isinstance(item, dict) and ("loc" in item or "msg" in item)
    ]


def _where(loc: Any) -> str:
    if not isinstance(loc, list):
        return ""
    parts = [part for part in loc[:_MANY] if isinstance(part, int | str)]
    parts = parts[1:] if parts[:1] == ["body"] else parts
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return f"{path}: " if path else ""


def _options(detail: str) -> tuple[str, ...]:
    """Return the valid images that the text lists behind its last colon, quoted or bare."""
    before, _, listed = detail.rpartition(": ")
    if not before:
        return ()
    quoted = re.findall(r"['\"]([^'\"]+)['\"]", listed)
    bare = [part.strip(" []().'\"") for part in listed.split(",")]
    return tuple(quoted or [part for part in bare if part])[:_MANY]


_EXPIRED: Final = re.compile(r"\b(expired|expiration|no longer valid)\b", re.IGNORECASE)
_READ_ONLY: Final = re.compile(r"\bread[ _-]?only\b", re.IGNORECASE)

_KEY_ADVICE: Final = {
    "expired": "the key has expired: make a new one, then run sweep to find what still bills",
    "read-only": "the key is read-only, and the GPU Cloud takes no such key: make one that may write",
}


def _key_reason(words: str) -> Literal["expired", "read-only"] | None:
    """Return the reason for which the service refuses the key; None if the text has none."""
    if _READ_ONLY.search(words):
        return "read-only"
    return "expired" if _EXPIRED.search(words) else None


_UNITS: Final[Mapping[str, int]] = {"h": 3600, "m": 60, "s": 1}
_DURATION: Final = re.compile(
    r"(?<![\d.:])([0-9]{1,6}(?:\.[0-9]{1,6})?) ?-?(?:more )?(h|m|s)"
    r"(?:ours?|rs?|inutes?|ins?|econds?|ecs?)?(?:\(s\))?(?![A-Za-z_(])",
    re.IGNORECASE,
)
_BEFORE_LEFT: Final = re.compile(r"\b(wait|again|retry|another|remaining|left|in)\b", re.IGNORECASE)
_BEHIND_LEFT: Final = re.compile(r" (more|remain(ing|s)?|left|to go)\b", re.IGNORECASE)
_NEAR: Final = 24
"""Number of characters before a duration in which a word may mark the duration as the time left."""


def _time_left(words: str) -> float | None:
    """Return the seconds left by a refusal's text: `13 minutes left`, `try again in 12 minutes 30 seconds`.

    A duration without such words is the whole minimum, of which an unknown part has passed.
    """
    found: list[tuple[int, int, float]] = []
    """Start, end and seconds of each duration. Adjacent parts such as `12 minutes and 30 seconds` are one."""
    for match in islice(_DURATION.finditer(words), _MANY):
        seconds = float(match[1]) * _UNITS[match[2].lower()]
        if found and words[found[-1][1] : match.start()].strip(" ,").lower() in ("", "and"):
            first, _, before = found.pop()
            found.append((first, match.end(), before + seconds))
        else:
            found.append((match.start(), match.end(), seconds))
    before = 0
    for start, end, seconds in found:
        said = words[max(before, start - _NEAR) : start]
        if "more" in words[start:end].lower() or _BEFORE_LEFT.search(said) or _BEHIND_LEFT.match(words, end):
            return seconds
        before = end
    return None
