"""Shows a launch while it is under way: a bar in a notebook, one line that renews itself in a terminal.

To be given as `on_progress`. Needs no extra; behind a pipe it prints a line only when the counts change.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any, Final

from .lifecycle.report import LaunchState
from .lifecycle.tally import LaunchProgress

_COLOURS: Final = {
    LaunchState.ACTIVE: "#009e73",
    LaunchState.PROVISIONING: "#56b4e9",
    LaunchState.POSTING: "#cc79a7",
    LaunchState.QUEUED: "#b0b6c1",
    LaunchState.FAILED: "#d55e00",
    LaunchState.TERMINATED: "#757c89",
    LaunchState.UNKNOWN: "#e69f00",
}
"""In the order in which they are shown; the colours are those of `Report.timeline`."""
_PENDING: Final = (LaunchState.QUEUED, LaunchState.POSTING, LaunchState.PROVISIONING)
_EVERY: Final = 1.0
"""Seconds between two pictures, however much happens."""


class ProgressDisplay:
    """Shows a launch: `fluence.launch(specs, on_progress=ProgressDisplay())`. One for each launch.

    In a Jupyter notebook a bar that renews itself, in a terminal a line on stderr; both count down between
    the events, once a second. Elsewhere, a line on stderr whenever the counts have changed.
    """

    def __init__(self) -> None:
        self._event: LaunchProgress | None = None
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._handle: Any = None
        self._said = ""
        self._notebook = _notebook()

    def __call__(self, event: LaunchProgress) -> None:
        """Take note of an event; it is shown within a second."""
        first, self._event = self._event is None, event
        self._heard = asyncio.get_running_loop().time()
        if first or not self._pending:
            self._show()

    @property
    def _pending(self) -> bool:
        return self._event is not None and any(self._event.counts[state] for state in _PENDING)

    def _show(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_EVERY, self._show) if self._pending else None
        if self._notebook is None:
            self._print(last=self._timer is None)
        elif self._handle is None:
            self._handle = self._notebook.display(self, display_id=True)
        else:
            self._handle.update(self)

    def _print(self, *, last: bool) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{self}" + ("\n" if last else ""))
            sys.stderr.flush()
        elif (counts := self._counts()) != self._said:
            self._said = counts
            print(counts, file=sys.stderr, flush=True)

    def _counts(self) -> str:
        if self._event is None:
            return "nothing yet"
        counts = self._event.counts
        return ", ".join(f"{counts[state]} {state}" for state in _COLOURS if counts[state]) or "nothing"

    def __repr__(self) -> str:
        if self._event is None or not self._pending:
            return self._counts()
        left = self._event.eta - (asyncio.get_running_loop().time() - self._heard)
        return f"{self._counts()}; {f'about {left:.0f} s to go' if left >= 1 else 'any moment now'}"

    def _repr_html_(self) -> str:
        if self._event is None:
            return repr(self)
        counts = self._event.counts
        parts = "".join(
            f'<div title="{counts[state]} {state}" style="flex:{counts[state]};background:{colour}"></div>'
            for state, colour in _COLOURS.items()
            if counts[state]
        )
        bar = (
            f'<div style="display:flex;height:12px;max-width:600px;border-radius:6px;overflow:hidden">{parts}'
        )
        return f'<div role="status">{bar}</div><small>{self!r}</small></div>'


def _notebook() -> Any:
    """IPython's module `display` when a notebook's kernel runs this, else None. Imports no IPython of its own."""
    shell = sys.modules.get("IPython") and importlib.import_module("IPython").get_ipython()
    return importlib.import_module("IPython.display") if getattr(shell, "kernel", None) else None
