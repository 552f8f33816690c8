"""Dates in the headers of replies: `Date`, and `Retry-After`.

Pure. No other part of a header is read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_DATE_LENGTH: Final = 64
YEARS: Final = range(1970, 9000)
"""Valid years of a time. Arithmetic with the first and last years of `datetime` overflows."""


def retry_after(headers: Mapping[str, str], service_time: datetime | None = None) -> float | None:
    """Return the seconds of `Retry-After`; None if it is absent or in neither of RFC 9110's two formats.

    Args:
        headers: headers of the reply.
        service_time: time at the service, for a reply without a `Date`; None for this machine's time.

    A date is relative to the reply's own `Date`, so that no clock of this machine has to be right.
    """
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    date = http_date(text)
    if date is None:
        return None
    now = http_date(headers.get("Date", "")) or service_time or datetime.now(UTC)
    return max(0.0, (date - now).total_seconds())


def http_date(text: str) -> datetime | None:
    """Parse an HTTP date as a time in UTC; return None if it is invalid."""
    if not text.isascii() or len(text) > _DATE_LENGTH:
        return None
    try:
        date = parsedate_to_datetime(text)
        # HTTP dates have no other zone than UTC, and this machine's zone does not apply.
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return date if date.year in YEARS else None
