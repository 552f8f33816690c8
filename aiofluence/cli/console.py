"""What commands print: a table or fields for people, JSON for scripts, and notes beside both on stderr.

For people every text goes through `printable`; in JSON it is exactly what it is. What JSON shapes there are
is `shapes`' business.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from .printable import printable

_LISTED: Final = 8

_CLOSED: Final[set[int]] = set()
"""Standard streams that were closed when the program began."""


def prepare() -> None:
    """Make the standard streams safe: a letter that the encoding lacks, or a closed stream, is no crash."""
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
    """Open a stream in the place of a closed one, so that no socket gets its number.

    A closed stdout becomes a pipe that nobody reads: writing fails as it does behind `| head`.
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
    """Write no more to stdout: what could not be written must not fail once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def finish() -> int:
    """Write what is still buffered; gives 0, or 1 when stdout takes no more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        give_up_stdout()
        return 1
    return 0


def is_closed(number: int) -> bool:
    """Whether the standard stream of that number was closed when the program began."""
    return number in _CLOSED


def say(text: str) -> None:
    """One line for people."""
    print(printable(text), flush=True)


def note(text: str) -> None:
    """One line that is no result: what is going on, what is missing."""
    print(printable(text), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON document, indented."""
    print(json.dumps(value, indent=2), flush=True)


def print_json_line(value: Any) -> None:
    """One JSON object on one line, for what comes one by one."""
    print(json.dumps(value), flush=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A table; the columns in `right` hold numbers. Never cut: what it shows is there to be copied."""
    for line in plain_table(head, rows, right):
        print(line)
    sys.stdout.flush()


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """A table as lines, its columns aligned by blanks."""
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
    """Names and values, one a line; those without a value are left out."""
    width = max((len(name) for name, value in fields if value), default=0)
    for name, value in fields:
        if value:
            say(f"{name:<{width}}  {value}")


def listed(names: Sequence[str]) -> str:
    """Names as a person would list them, the first few of many."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
