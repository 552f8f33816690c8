"""Display of a launch in progress: a bar in a notebook, or a self-updating line in a terminal.

For use as `on_progress`. Needs no extra. In a pipe, it prints a line only when the counts change.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any, Final

from .progress import PENDING, LaunchProgress
from .report import LaunchState

_COLOURS: Final = {
    LaunchState.ACTIVE: "#009e73",
    LaunchState.PROVISIONING: "#56b4e9",
    LaunchState.POSTING: "#cc79a7",
    LaunchState.QUEUED: "#b0b6c1",
    LaunchState.FAILED: "#d55e00",
    LaunchState.TERMINATED: "#757c89",
    LaunchState.UNKNOWN: "#e69f00",
}
"""Colours of the states, in the order of display. They are those of `Report.timeline`."""
_WORDS: Final = {LaunchState.TERMINATED: "given up and being ended"}
"""States with another display text: a launch does not see the end of given-up instances."""
_EVERY: Final = 1.0
"""Least number of seconds between two updates."""


class ProgressDisplay:
    """Display of a launch: `fluence.launch(specs, on_progress=ProgressDisplay())`. One for each launch.

    In a Jupyter notebook it is a self-updating bar, in a terminal a line on stderr. Both count down once a
    second between events. Elsewhere it is a line on stderr whenever the counts have changed.
    """

    def __init__(self) -> None:
        self._event: LaunchProgress | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handle: Any = None
        self._text = "nothing yet"
        self._display = _notebook_display()

    def __call__(self, event: LaunchProgress) -> None:
        """Note an event, and show it within a second."""
        first, self._event = self._event is None, event
        if first or not _pending(event):
            self._show(event)

    def _show(self, event: LaunchProgress) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop, before = asyncio.get_running_loop(), self._text
        self._text = ", ".join(
            f"{event.counts[state]} {_WORDS.get(state, state)}" for state in _COLOURS if event.counts[state]
        )
        if _pending(event):
            self._timer = loop.call_later(_EVERY, lambda: self._show(self._event or event))
            if self._display is not None or sys.stderr.isatty():
                self._text += f"; {event.estimate()}"
        if self._display is None:
            self._write(before)
        elif self._handle is None:
            self._handle = self._display(self, display_id=True)
        else:
            self._handle.update(self)

    def _write(self, before: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{self._text}" + ("" if self._timer else "\n"))
        elif self._text != before:
            sys.stderr.write(f"{self._text}\n")
        sys.stderr.flush()

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        counts = self._event.counts if self._event is not None else {}
        parts = "".join(
            f'<div title="{counts[state]} {_WORDS.get(state, state)}" '
            f'style="flex:{counts[state]};background:{colour}"></div>'
            for state, colour in _COLOURS.items()
            if counts.get(state)
        )
        return (
            '<div role="status"><div style="display:flex;height:12px;max-width:600px;border-radius:6px;'
            f'overflow:hidden">{parts}</div><small>{self._text}</small></div>'
        )


def _pending(event: LaunchProgress) -> bool:
    return any(event.counts[state] for state in PENDING)


def _notebook_display() -> Any:
    """IPython's `display` in a notebook's kernel, else None. Does not import IPython by itself."""
    if "IPython" not in sys.modules:
        return None
    shell = importlib.import_module("IPython").get_ipython()
    return importlib.import_module("IPython.display").display if getattr(shell, "kernel", None) else None
