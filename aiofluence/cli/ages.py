"""How old an instance is, by the service's own clock: the `Date` of its answers.

Also how an age is written. It asks nothing by itself.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiofluence


class ServiceTime:
    """Remembers the service's time; give `note` to a session as `on_reply`."""

    def __init__(self) -> None:
        self.now: datetime | None = None
        """Time of the last answer that had one."""

    def note(self, call: object, reply: aiofluence.Reply) -> None:
        """An answer came."""
        with suppress(ValueError):  # a gateway that tells no time
            self.now = parsedate_to_datetime(reply.headers.get("Date", "")).astimezone(UTC)

    def age(self, since: datetime) -> str:
        """How long ago that was: `3m`, `2h05m`, `1d04h`; nothing when the service never told its time."""
        if self.now is None:
            return ""
        return short_time((self.now - since).total_seconds())


def short_time(seconds: float) -> str:
    """`40s`, `3m`, `2h05m`, `1d04h`."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d{hours % 24:02d}h"
    if hours:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{minutes}m" if minutes else f"{whole}s"
