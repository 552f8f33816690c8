"""The display of a running command on a terminal, with rich: colours, and a table that is redrawn.

All its text goes through `printable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ..display.table import minutes
from .live import Clock, Display, LiveRow, Progress
from .printable import printable

_WIDE: Final = 80
_FRAME: Final = 6
"""Number of lines of a live table that hold no instance."""
_STYLES: Final = {"active": "bold green", "ACTIVE": "green", "failed": "bold red", "provisioning": "yellow"}


def live_display(clock: Clock) -> Display | None:
    """Return the live display; None if the terminal cannot move its cursor."""
    console = Console(highlight=False, markup=False, emoji=False)
    return None if console.is_dumb_terminal else LiveDisplay(console, clock)


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
        if row.status == "failed":
            return Text("x" if ascii_only else "✗", "red")
        if row.status not in ("active", "ACTIVE"):  # given up, or not known, so no success
            return Text("-", "dim")
        return Text("+" if ascii_only else "✓", "green")


def _empty_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")


def _text(text: str, style: str = "") -> Text:
    """Return the text unchanged, without markup for rich."""
    return Text(printable(text), style)
