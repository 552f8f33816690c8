"""Progress of a clean-up: the time of its last change, and of its next report.

No I/O: `custody` waits, ends and writes the reports.
"""

from __future__ import annotations

from typing import Final

_PATIENCE: Final = 2.0
"""Seconds that a clean-up may take without a report."""


class Progress:
    """Progress of a clean-up: the times of its last change and of its next report."""

    def __init__(self, now: float, every: float) -> None:
        self.due: float = now + _PATIENCE
        self._every = every
        self._state: object = None
        self._changed = now
        self._most = 0

    def note(self, state: object, now: float) -> float:
        """Note the present state, and return the loop time of its last change."""
        if state != self._state:
            self._state, self._changed = state, now
        return self._changed

    def is_due(self, now: float) -> bool:
        """Return True if a report is due now, and set the time of the next one."""
        if now < self.due:
            return False
        self.due = now + self._every
        return True

    def most(self, number: int) -> int:
        """The largest `number` so far."""
        self._most = max(self._most, number)
        return self._most
