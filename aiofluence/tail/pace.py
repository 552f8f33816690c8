"""When a tail polls next, how wide its window is, and what may be spent on counting lines that only repeat.

Numbers in, numbers out: it knows how many lines came, not what they say.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

from ..models.logs import LogLine
from .answer import WIDEST

__all__ = ["Pace"]

SHORTEST = 1.5
"""Seconds between polls while lines come."""
LONGEST = 15.0
"""Seconds between polls of a quiet log."""
SLOWER = 1.5
HOLDING = 3.0
"""Seconds between polls at most while new lines are held back."""
BUSIEST = 1.0
"""Seconds between polls while more come than half of the widest window shows."""
AMPLE = 1.5
"""A window has room for so many times the lines that are expected."""
LEAST = 32.0
"""Bytes a second that may at least be spent on counting repeats."""
EARNED, EARNED_MORE = 18.0, 7.0
"""Beside that, as multiples of what the log brings: of its first `LITTLE` bytes a second, and of the rest."""
LITTLE = 120.0
MINUTE = 60.0
"""Seconds over which at least it is averaged how much the log brings."""
MOST = 8e6
"""Bytes that may be saved up."""


class Pace:
    """One tail's. All times are seconds of any one clock, all sizes bytes."""

    def __init__(self) -> None:
        self.interval: float = SHORTEST
        self._rates: deque[float] = deque(maxlen=5)  # lines a second
        self._polled: float | None = None
        self._lively = False  # the last poll that left nothing open brought something
        self._credit = 16384.0
        self._line = 80.0  # of the lines seen lately
        self._brought = 0  # of the log that came out so far
        self._began: float | None = None
        self._now = 0.0

    def came(self, lines: Sequence[LogLine], now: float) -> None:
        """Notice an answer."""
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
        """Notice how much came out."""
        self._brought += size

    def afford(self, lines: int) -> bool:
        """Whether as many lines may be fetched for a count; if so, they are paid for."""
        cost = lines * self._line
        if cost > self._credit:
            return False
        self._credit -= cost
        return True

    def polled(self, new: int, *, open: bool, holding: bool) -> int:
        """A poll has ended: sets `interval`, and gives how many lines to expect, and some more.

        Args:
            new: lines that came, of the pod with the most.
            open: it is not known of all how many came.
            holding: some of them are held back.
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
