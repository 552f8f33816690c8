"""The displays of a running command: plain lines for a pipe or a file, rich for a terminal.

Both displays have one interface and do not use the service. All their text goes through `printable`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol, TypeAlias

import attrs
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

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


def choose_display(clock: Clock) -> Display:
    """Return the live display on a terminal that can move its cursor, and plain lines otherwise."""
    if sys.stdout.isatty():
        console = Console(highlight=False, markup=False, emoji=False)
        if not console.is_dumb_terminal:
            return LiveDisplay(console, clock)
    return PlainDisplay(clock)


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


_WIDE: Final = 80
_FRAME: Final = 6
"""Number of lines of a live table that hold no instance."""
_STYLES: Final = {"READY": "bold green", "ACTIVE": "green", "FAILED": "bold red", "provisioning": "yellow"}


class LiveDisplay(Display):
    """Colours, tables and a progress table that is redrawn."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock

    def act(self, title: str) -> None:
        self._console.print()
        line = _text(title, "bold cyan")
        line.append(f"  {minutes(self._clock())}", "dim")
        self._console.print(line)

    def say(self, text: str, *, aside: bool = False) -> None:
        # An aside (a log line, an event) is cut to the width. Other text is wrapped.
        if aside:
            self._console.print(_text(f"  {text}", "dim"), no_wrap=True, overflow="ellipsis", crop=True)
        else:
            self._console.print(_text(text))

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        table = _empty_table()
        for index, title in enumerate(head):
            table.add_column(_text(title), justify="right" if index in right else "left", no_wrap=True)
        for row in rows:
            table.add_row(*map(_text, row))
        self._console.print(table)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        # The same spinner for a name in all redraws: a new one would start at its first frame.
        spinners: dict[str, Spinner] = {}
        # Only the updates redraw: a refresh thread could draw into other output.
        with Live(console=self._console, auto_refresh=False) as live:
            yield lambda rows, title="", /: live.update(self._instances(rows, spinners, title), refresh=True)

    def _instances(self, rows: Sequence[LiveRow], spinners: dict[str, Spinner], title: str = "") -> Table:
        table = _empty_table()
        if title:
            table.title, table.title_justify, table.title_style = printable(title), "left", "bold"
        # Instances that are still awaited come first if not all rows fit.
        visible = max(5, self._console.height - _FRAME)
        if len(rows) > visible:
            table.caption, table.caption_justify = f"and {len(rows) - visible} more", "left"
            rows = sorted(rows, key=lambda row: not row.busy)[:visible]
        wide = self._console.width >= _WIDE
        table.add_column("", width=1)
        for title in ("Name", "GPU", "Status") if wide else ("Name", "Status"):
            table.add_column(title, no_wrap=True)
        for title in ("Age", "USDC/h"):
            table.add_column(title, no_wrap=True, justify="right")
        # Only this column may shrink: rich never narrows a column that must not wrap.
        table.add_column("Reached at", ratio=1)
        for row in rows:
            table.add_row(
                self._mark(row, spinners),
                _text(row.name, "bold"),
                *([_text(row.gpu)] if wide else []),
                _text(row.status, _STYLES.get(row.status, "dim")),
                minutes(row.age),
                row.hourly,
                Text(printable(row.note), "dim", no_wrap=True, overflow="ellipsis"),
            )
        return table

    def _mark(self, row: LiveRow, spinners: dict[str, Spinner]) -> RenderableType:
        ascii_only = self._console.options.ascii_only
        if row.busy:
            return spinners.setdefault(row.name, Spinner("line" if ascii_only else "dots", style="cyan"))
        if row.status == "FAILED":
            return Text("x" if ascii_only else "✗", "red")
        if row.status not in ("READY", "ACTIVE"):  # given up, or not known, so no success
            return Text("-", "dim")
        return Text("+" if ascii_only else "✓", "green")


def _empty_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")


def _text(text: str, style: str = "") -> Text:
    """Return the text unchanged, without markup for rich."""
    return Text(printable(text), style)
