"""The age of an instance by the service's own clock, which is the `Date` of its replies.

Also the text form of an age. This module makes no requests.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import aiofluence


class ServiceTime:
    """The service's time. Pass `note` to a session as `on_reply`."""

    def __init__(self) -> None:
        self.now: datetime | None = None
        """Time of the last reply with a `Date`; None before the first."""

    def note(self, call: object, reply: aiofluence.Reply) -> None:
        """Note the time of a reply."""
        from email.utils import parsedate_to_datetime  # slow to import

        with suppress(ValueError):  # a gateway may reply without `Date`
            self.now = parsedate_to_datetime(reply.headers.get("Date", "")).astimezone(UTC)

    def age(self, since: datetime) -> str:
        """Return the time since `since`: `3m`, `2h05m`, `1d04h`; empty if the service's time is not known."""
        if self.now is None:
            return ""
        return short_time((self.now - since).total_seconds())


def short_time(seconds: float) -> str:
    """Format seconds as `40s`, `3m`, `2h05m` or `1d04h`."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d{hours % 24:02d}h"
    if hours:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{minutes}m" if minutes else f"{whole}s"
