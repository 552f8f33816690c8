"""The time of the next poll, the width of its window, and the budget for counting repeated lines.

Pure arithmetic: it uses the number and the size of lines, not their text.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

from ..models.logs import LogLine
from .windows import WIDEST

__all__ = ["Pace"]

SHORTEST = 1.5
"""Seconds between polls while lines arrive."""
LONGEST = 15.0
"""Seconds between polls of a quiet log."""
SLOWER = 1.5
HOLDING = 3.0
"""Longest time in seconds between polls while new lines are held back."""
BUSIEST = 1.0
"""Seconds between polls while each brings more than half of the widest window."""
AMPLE = 1.5
"""Width of a window as a multiple of the expected lines."""
LEAST = 32.0
"""Minimum budget for counting repeats, in bytes per second."""
EARNED, EARNED_MORE = 18.0, 7.0
"""Additional budget, as multiples of the log's own rate: below `LITTLE` bytes per second, and above."""
LITTLE = 120.0
MINUTE = 60.0
"""Minimum time in seconds over which the rate of the log is averaged."""
MOST = 8e6
"""Maximum of the saved budget in bytes."""


class Pace:
    """The pace of one tail. All times are seconds of any one clock, all sizes are bytes."""

    def __init__(self) -> None:
        self.interval: float = SHORTEST
        self._rates: deque[float] = deque(maxlen=5)  # lines per second
        self._polled: float | None = None
        self._lively = False  # the last poll without an open question brought lines
        self._credit = 16384.0
        self._line = 80.0  # mean size of recent lines
        self._brought = 0  # size of all delivered lines
        self._began: float | None = None
        self._now = 0.0

    def came(self, lines: Sequence[LogLine], now: float) -> None:
        """Note a reply."""
        if self._began is None:
            self._began = self._now = now
        flow = self._brought / max(MINUTE, now - self._began)
        allowance = LEAST + EARNED * min(flow, LITTLE) + EARNED_MORE * max(0.0, flow - LITTLE)
        self._credit = min(self._credit + allowance * (now - self._now), MOST)
        self._now = now
        if lines:
            mean = sum(len(line.raw) for line in lines) / len(lines) + 4
            self._line += (mean - self._line) * 0.3

    def brought(self, size: int) -> None:
        """Note the size of delivered lines."""
        self._brought += size

    def afford(self, lines: int) -> bool:
        """Return True if the budget permits to fetch that many lines for a count, and charge it for them."""
        cost = lines * self._line
        if cost > self._credit:
            return False
        self._credit -= cost
        return True

    def polled(self, new: int, *, open: bool, holding: bool) -> int:
        """Note the end of a poll, set `interval`, and return the number of lines to expect, with a reserve.

        Args:
            new: number of lines that arrived, of the pod with the most.
            open: the number of new lines is not known for all pods.
            holding: some of the lines are held back.
        """
        if not open:
            self._lively = bool(new)
            if self._polled is not None and self._now > self._polled:
                self._rates.append(new / (self._now - self._polled))
            self._polled = self._now
        if new:
            self.interval = SHORTEST
        else:
            longest = HOLDING if holding or (open and self._lively) else LONGEST
            self.interval = min(longest, self.interval * SLOWER)
        rate = statistics.median(self._rates) if self._rates else 0.0
        if rate * AMPLE * self.interval > WIDEST / 2:
            self.interval = BUSIEST
        return int(rate * self.interval * AMPLE)
