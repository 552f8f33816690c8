"""How a command shows what happens: plain lines for a pipe or a file, rich for a terminal.

Two displays with one interface. They know nothing of the service, and every text that they show goes
through `printable`, wherever it came from.
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

from .console import plain_table
from .printable import printable

Clock: TypeAlias = Callable[[], float]
"""Simulated seconds since the command began."""


@attrs.frozen
class LiveRow:
    """One instance as the progress shows it.

    Attributes:
        age: simulated seconds since it was ordered.
        note: where it is reached, or why it is not; may be empty.
        busy: something is still awaited of it.
    """

    name: str
    gpu: str
    status: str
    age: float
    hourly: str
    note: str = ""
    busy: bool = True


class Progress(Protocol):
    """Shows the instances as they now are; called again and again with all of them."""

    def __call__(self, rows: Sequence[LiveRow], title: str = "", /) -> None: ...


class Display(ABC):
    """Where a command's story is told."""

    @abstractmethod
    def act(self, title: str) -> None:
        """A new part of the story begins."""

    @abstractmethod
    def say(self, text: str, *, aside: bool = False) -> None:
        """One line; an aside is of less weight, such as a log line."""

    @abstractmethod
    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """A small table; the columns in `right` hold numbers."""

    @abstractmethod
    def progress(self) -> AbstractContextManager[Progress]:
        """Inside the block, instances are shown as they change."""


def choose_display(clock: Clock) -> Display:
    """The live display on a terminal that can move its cursor, plain lines everywhere else."""
    if sys.stdout.isatty():
        console = Console(highlight=False, markup=False, emoji=False)
        if not console.is_dumb_terminal:
            return LiveDisplay(console, clock)
    return PlainDisplay(clock)


class PlainDisplay(Display):
    """One line per event, each beginning with the simulated time. No control characters, no cursor."""

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
        # Flushed, because whoever reads a pipe wants to see it while it happens.
        print(f"{minutes(self._clock()):>6}  {printable(text)}".rstrip(), flush=True)


_WIDE: Final = 80
_FRAME: Final = 6
"""Lines of a live table that hold no instance."""
_STYLES: Final = {"READY": "bold green", "ACTIVE": "green", "FAILED": "bold red", "provisioning": "yellow"}


class LiveDisplay(Display):
    """Colours, tables and a progress that redraws itself."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock

    def act(self, title: str) -> None:
        self._console.print()
        line = _text(title, "bold cyan")
        line.append(f"  {minutes(self._clock())}", "dim")
        self._console.print(line)

    def say(self, text: str, *, aside: bool = False) -> None:
        # An aside (a log line, an event) is cut to the width; what we say ourselves is wrapped.
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
        # One spinner for each name and all redraws, or none of them would ever turn.
        spinners: dict[str, Spinner] = {}
        # Redrawn by the updates alone: no thread draws into the terminal behind our back.
        with Live(console=self._console, auto_refresh=False) as live:
            yield lambda rows, title="", /: live.update(self._instances(rows, spinners, title), refresh=True)

    def _instances(self, rows: Sequence[LiveRow], spinners: dict[str, Spinner], title: str = "") -> Table:
        table = _empty_table()
        if title:
            table.title, table.title_justify, table.title_style = printable(title), "left", "bold"
        # What is still awaited goes before what has settled, where there is no room for all.
        room = max(5, self._console.height - _FRAME)
        if len(rows) > room:
            table.caption, table.caption_justify = f"and {len(rows) - room} more", "left"
            rows = sorted(rows, key=lambda row: not row.busy)[:room]
        wide = self._console.width >= _WIDE
        table.add_column("", width=1)
        for title in ("Name", "GPU", "Status") if wide else ("Name", "Status"):
            table.add_column(title, no_wrap=True)
        for title in ("Age", "USDC/h"):
            table.add_column(title, no_wrap=True, justify="right")
        # The one column that gives way: rich never narrows a column that must not wrap.
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
        if row.status not in ("READY", "ACTIVE"):  # given up, or not known: no success
            return Text("-", "dim")
        return Text("+" if ascii_only else "✓", "green")


def minutes(seconds: float) -> str:
    """`3:07` for 187 seconds."""
    whole = int(max(0.0, seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def _empty_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")


def _text(text: str, style: str = "") -> Text:
    """As it is: rich finds no markup in it."""
    return Text(printable(text), style)
