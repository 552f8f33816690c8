"""The display of a running command: its interface, and plain lines for a pipe or a file.

`rich_display` has the display for terminals. Displays do not use the service.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

import attrs

from ..display.table import minutes
from .console import plain_table
from .printable import printable

Clock: TypeAlias = Callable[[], float]
"""Returns the simulated seconds since the command began."""


@attrs.frozen
class LiveRow:
    """An instance in the progress display.

    Attributes:
        age: simulated seconds since it was ordered.
        note: its address, or the reason why it has none; may be empty.
        busy: the launch still waits for it.
    """

    name: str
    gpu: str
    status: str
    age: float
    hourly: str
    note: str = ""
    busy: bool = True


class Progress(Protocol):
    """The update function of a progress display. Each call passes the current rows of all instances."""

    def __call__(self, rows: Sequence[LiveRow], title: str = "", /) -> None: ...


class Display(ABC):
    """The output of a command while it runs."""

    @abstractmethod
    def act(self, title: str) -> None:
        """Begin a new part of the output."""

    @abstractmethod
    def say(self, text: str, *, aside: bool = False) -> None:
        """Print one line. An aside is less important, such as a log line."""

    @abstractmethod
    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Print a small table. The columns in `right` hold numbers."""

    @abstractmethod
    def progress(self) -> AbstractContextManager[Progress]:
        """Show instances as they change, within the block."""


class PlainDisplay(Display):
    """A display of one line per event, which begins with the simulated time, without control characters."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def act(self, title: str) -> None:
        print()
        self._print(f"== {title} ==")

    def say(self, text: str, *, aside: bool = False) -> None:
        self._print(f"  {text}" if aside else text)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        for line in plain_table(head, rows, right):
            self._print(line)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        shown: dict[str, tuple[str, str]] = {}

        def update(rows: Sequence[LiveRow], title: str = "", /) -> None:
            width = max([8, *(len(row.name) for row in rows)])
            for row in rows:
                if shown.get(row.name) != (row.status, row.note):
                    shown[row.name] = row.status, row.note
                    self._print(f"{row.name:<{width}} {row.status:<11}  {row.note}")

        yield update

    def _print(self, text: str) -> None:
        # Flushed, so that the reader of a pipe sees each line at once.
        print(f"{minutes(self._clock()):>6}  {printable(text)}".rstrip(), flush=True)
