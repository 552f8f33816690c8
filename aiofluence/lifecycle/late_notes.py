"""Notes that a journal could not write, as on a full disk, until they are written.

Keeps the notes and a timer for the next attempt. `journal` writes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Final

from .intents import Intent

_AGAIN: Final = 5.0
"""Seconds until the next attempt."""


class LateNotes:
    """Unwritten notes, in the order of the file.

    Args:
        write: writes all of them, and then calls `clear`. Raises an OSError if it cannot write.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self._notes: list[tuple[Intent, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._notes)

    @property
    def data(self) -> bytes:
        """The lines of all notes."""
        return b"".join(line for _, line in self._notes)

    @property
    def names(self) -> str:
        """Names of the instances, for a message."""
        return ", ".join(dict.fromkeys(intent.name for intent, _ in self._notes))

    def add(self, intent: Intent, line: bytes) -> None:
        """Keep a note, and try again soon, even if no other note follows."""
        self._notes.append((intent, line))
        self._try_later()

    def add_before(self, notes: Iterable[tuple[Intent, bytes]]) -> None:
        """Keep notes that are older than all others."""
        self._notes[:0] = notes
        self._try_later()

    def clear(self) -> None:
        """Drop all notes: they are written."""
        self._notes.clear()

    def close(self) -> None:
        """Stop trying."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _try_later(self) -> None:
        if self._timer is None and self._notes:
            with contextlib.suppress(RuntimeError):  # no loop runs: the next note writes these, too
                self._timer = asyncio.get_running_loop().call_later(_AGAIN, self._try)

    def _try(self) -> None:
        self._timer = None
        try:
            self._write()
        except OSError:
            self._try_later()
