"""Log tails: each line once and in order, or a `LogGap` where that is not certain.

`FollowLogs` requests the windows that `stitch` wants, at its intervals. `stitch` finds the new lines.
"""

from __future__ import annotations

from typing import TypeAlias

from ..errors import FluenceError
from ..http.messages import Priority
from ..models.instances import InstanceRef
from ..models.logs import GapReason, LogGap, LogLine
from ..polling.evidence import Evidence
from ..resources.endpoints import Endpoints
from .follower import Follower, OneTail
from .stitch import Stitch
from .windows import Windows

Item: TypeAlias = LogLine | LogGap


class FollowLogs(Follower[Item]):
    """The log of one container, poll by poll."""

    def __init__(
        self, endpoints: Endpoints, ref: InstanceRef, last: int, pace: float, evidence: Evidence
    ) -> None:
        super().__init__(endpoints, ref, pace, evidence)
        self._stitch = Stitch(last)
        self._windows = Windows()
        self._at_once = False
        self._shown = False  # the last reply had lines

    async def _fetch(self, now: float) -> bool | None:
        asked = self._windows.nearest(self._stitch.ask, now)
        try:
            lines = await self._endpoints.logs(self.ref.id, last=asked, priority=Priority.TAIL)
        except FluenceError as error:
            if not self._windows.refuses(asked, error, now):
                raise
            self.last_error: FluenceError | None = error
            self.due: float = float("-inf")  # another window, at once
            return None
        self._windows.answered(asked)
        if self._shown and not lines:
            self._status_due = float("-inf")  # poll the status now: an ended instance may have empty logs
        self._shown = bool(lines)
        limited = self._windows.is_widest(asked)
        step = self._stitch.take(
            lines, asked, now, ending=self._ended, limited=limited, numbered=self._windows.numbered
        )
        self._at_once = step.at_once
        self.ready.extend(step.items)
        return bool(step.items) or step.at_once

    def _interval(self) -> float:
        return 0.0 if self._at_once else self._stitch.interval

    def _finish(self, *, all_seen: bool) -> None:
        items = self._stitch.finish()
        self.ready.extend(items)
        marked = any(isinstance(item, LogGap) for item in items)
        # A log without lines may be gone as well as empty.
        if not all_seen or not (self._shown or marked):
            self.ready.append(LogGap(GapReason.POD_GONE, 0, None))


class LogTail(OneTail[Item]):
    """The lines of a container as they arrive, and a `LogGap` where lines may be missing.

    Ends when the container has ended or failed and its last lines are delivered.
    """

    def __init__(
        self, endpoints: Endpoints, ref: InstanceRef, last: int, pace: float, evidence: Evidence
    ) -> None:
        super().__init__(endpoints, FollowLogs(endpoints, ref, last, pace, evidence))
