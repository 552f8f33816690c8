"""Output of commands: tables or fields for people, JSON for scripts, and notes for both on stderr.

Text for people goes through `printable`. JSON keeps each text unchanged. `json_output` defines its shapes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Final

from .printable import printable

_LISTED: Final = 8
_LEAST: Final = 10
"""Number of characters that a cut cell keeps."""

_CLOSED: Final[set[int]] = set()
"""Numbers of the standard streams that were closed when the program began."""


def prepare() -> None:
    """Make the standard streams safe: neither an unencodable letter nor a closed stream raises an error."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _CLOSED.add(number)
            _stand_in(number, name)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stand_in(number: int, name: str) -> None:
    """Open a stream in place of a closed one, so that no socket gets its number.

    A closed stdout becomes a pipe without a reader, so that writing fails as it does behind `| head`.
    """
    if number == 1:
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open(os.devnull, os.O_RDWR)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115  (for good)
    setattr(sys, name, stream)


def give_up_stdout() -> None:
    """Stop writing to stdout, so that unwritten text does not raise a second error at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def finish() -> int:
    """Write all buffered output. Return 1 if that fails, unless the reader has left, as `| head` does."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        give_up_stdout()
        return 0 if isinstance(error, BrokenPipeError) and not is_closed(1) else 1
    return 0


def is_closed(number: int) -> bool:
    """Return True if the standard stream of that number was closed when the program began."""
    return number in _CLOSED


def ask(question: str) -> bool:
    """Ask a person, on stderr. Every answer but yes is no."""
    sys.stderr.write(f"{printable(question)} [y/N]: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def say(text: str) -> None:
    """Print one line for people."""
    print(printable(text), flush=True)


def note(text: str) -> None:
    """Print a progress message, a warning or an error to stderr.

    A terminal gets it folded at words, unless it holds a command: that must stay one line, to be copied.
    """
    text = printable(text)
    if sys.stderr.isatty() and "aiofluence " not in text:
        margin = " " * (len(text) - len(text.lstrip()))
        columns = shutil.get_terminal_size((80, 24)).columns
        text = textwrap.fill(
            text, columns, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
        )
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    print(json.dumps(value, indent=2), flush=True)


def print_json_line(value: Any) -> None:
    """Print one JSON object on one line, for results that arrive one by one."""
    print(json.dumps(value), flush=True)


class Column:
    """A column of a table.

    Attributes:
        title: its head.
        right: True if it holds numbers.
        fold: True if its cells may be cut when the table is too wide. A cut cell ends in `…`.
        drop: columns with a higher number are left out first when the table is too wide; 0 is never left out.
        wide: True if only a wide table has it.
    """

    def __init__(
        self, title: str, *, right: bool = False, fold: bool = False, drop: int = 0, wide: bool = False
    ) -> None:
        self.title = title
        self.right = right
        self.fold = fold
        self.drop = drop
        self.wide = wide


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, wide: bool = False) -> None:
    """Print a table that fits the terminal, or 80 columns in a pipe. A wide table is complete."""
    for line in fitted(columns, rows, None if wide else shutil.get_terminal_size((80, 24)).columns):
        print(line)
    sys.stdout.flush()


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return a table as lines of at most `width` characters, if cutting and leaving out columns suffices."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if width is None:
        return _aligned(columns, cells)
    kept = [index for index, column in enumerate(columns) if not column.wide]
    while True:
        shown = [columns[index] for index in kept]
        table = [[row[index] for index in kept] for row in cells]
        widths = [
            max(map(len, column)) for column in zip([each.title for each in shown], *table, strict=True)
        ]
        excess = sum(widths) + 2 * (len(widths) - 1) - width
        for index, column in sorted(enumerate(shown), key=lambda pair: -widths[pair[0]]):
            if column.fold and excess > 0:
                cut = min(excess, max(widths[index] - _LEAST, 0))
                widths[index] -= cut
                excess -= cut
        droppable = [index for index in kept if columns[index].drop]
        if excess <= 0 or not droppable:
            break
        kept.remove(max(droppable, key=lambda index: columns[index].drop))
    return _aligned(
        shown, [[_cut(cell, wide) for cell, wide in zip(row, widths, strict=True)] for row in table]
    )


def _cut(cell: str, width: int) -> str:
    mark = "…" if (sys.stdout.encoding or "").lower().startswith("utf") else "~"
    return cell if len(cell) <= width else cell[: width - 1] + mark


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    right = [index for index, column in enumerate(columns) if column.right]
    return plain_table([column.title for column in columns], rows, right)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Return a table as lines, with columns aligned by blanks."""
    lines = [[printable(cell) for cell in line] for line in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if index in right else f"{cell:<{width}}"
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values. Each line of a value has a line. Names without a value are left out."""
    width = max((len(name) for name, value in fields if value), default=0)
    for name, value in fields:
        for index, line in enumerate(value.splitlines()):
            say(f"{name if index == 0 else '':<{width}}  {line}")


def listed(names: Sequence[str]) -> str:
    """Join names by commas: the first few, and the number of the others."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
