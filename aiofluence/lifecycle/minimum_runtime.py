"""Machines whose DELETE the service refuses until a minimum runtime is over: one warning, with the time left.

Sends nothing and decides nothing. `wait` repeats the DELETE.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ..background import loop_time
from ..display.table import minutes
from ..errors import FluenceError, MinimumRuntimeError
from ..models.instances import InstanceRef
from ..models.spending import MINIMUM_RUNTIME
from ..models.values import Kind, Status
from ..polling.state import WaitHistory

log: Final = logging.getLogger("aiofluence")

_LONGEST_PAUSE: Final = 240.0
"""Longest pause before another DELETE, in seconds. A close without any reply for 300 s gives up (custody)."""
_TOGETHER: Final = 1.0
"""Seconds for which refusals are collected, so that one line announces all of them."""
_APART: Final = 30.0
"""Least number of seconds between two such lines."""


class MinimumRuntime:
    """Refusals of one session that name a minimum runtime."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._until: dict[InstanceRef, float] = {}
        """Loop time at which the service is expected to end the instance."""
        self._news: list[InstanceRef] = []
        self._announced = float("-inf")
        self._is_vague = False
        """A refusal did not name the time left."""
        self._applies = False

    def refused(self, error: FluenceError | None, history: WaitHistory) -> float:
        """Note a failed DELETE. Return the seconds, if the refusal names them, until another may succeed."""
        if not isinstance(error, MinimumRuntimeError):
            return 0.0
        ref, now = history.ref, loop_time()
        left = error.retry_after
        if left is None:
            active = next((each.after for each in history.timeline if each.status is Status.ACTIVE), None)
            since = now if active is None else history.began + active
            left = max(0.0, MINIMUM_RUNTIME - (now - since) / self._pace)
        if ref not in self._until:
            self._is_vague = self._is_vague or error.retry_after is None
            self._news.append(ref)
            if len(self._news) == 1:
                then = max(now + _TOGETHER * self._pace, self._announced + _APART * self._pace)
                asyncio.get_running_loop().call_at(then, self._announce)
        self._until[ref] = now + left * self._pace
        self._applies = True
        return min(error.retry_after or 0.0, _LONGEST_PAUSE) * min(1.0, self._pace)

    def settled(self, ref: InstanceRef) -> None:
        """Forget an instance that is no longer being ended."""
        self._until.pop(ref, None)

    def is_refused(self, ref: InstanceRef) -> bool:
        """Return True if the last DELETE of an instance was refused for this reason."""
        return ref in self._until

    def left(self, ref: InstanceRef) -> float | None:
        """Seconds until the service is expected to end an instance. None if its DELETE was not refused."""
        until = self._until.get(ref)
        return None if until is None else max(0.0, until - loop_time())

    def after_active(self, ref: InstanceRef) -> float:
        """Seconds from ACTIVE for which a DELETE is expected to be refused, by the refusals so far."""
        return MINIMUM_RUNTIME * self._pace if self._applies and ref.kind is not Kind.CONTAINER else 0.0

    def _announce(self) -> None:
        news, self._news = self._news, []
        self._announced = loop_time()
        left = max((self.left(ref) or 0.0 for ref in news), default=0.0) / self._pace
        about = "at most" if self._is_vague else "about"
        others = f" and {len(news) - 1} more" if len(news) > 1 else ""
        log.warning(
            "%s%s: the service ends %s only after %d minutes of runtime, %s %s left; billed until then",
            news[0].name,
            others,
            "them" if others else "it",
            MINIMUM_RUNTIME // 60,
            about,
            minutes(left),
        )
