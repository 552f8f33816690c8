"""Output of commands: tables or fields for people, JSON for scripts, and notes for both on stderr.

Text for people goes through `printable`. JSON keeps each text unchanged. `json_output` defines its shapes.
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
    """Write all buffered output. Return 0, or 1 if stdout accepts no more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        give_up_stdout()
        return 1
    return 0


def is_closed(number: int) -> bool:
    """Return True if the standard stream of that number was closed when the program began."""
    return number in _CLOSED


def say(text: str) -> None:
    """Print one line for people."""
    print(printable(text), flush=True)


def note(text: str) -> None:
    """Print one line that is not part of the result to stderr: a progress message or a warning."""
    print(printable(text), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    print(json.dumps(value, indent=2), flush=True)


def print_json_line(value: Any) -> None:
    """Print one JSON object on one line, for results that arrive one by one."""
    print(json.dumps(value), flush=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print a table. The columns in `right` hold numbers. Cells are never cut, so that they can be copied."""
    for line in plain_table(head, rows, right):
        print(line)
    sys.stdout.flush()


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
    """Print names and values, one per line. Names without a value are left out."""
    width = max((len(name) for name, value in fields if value), default=0)
    for name, value in fields:
        if value:
            say(f"{name:<{width}}  {value}")


def listed(names: Sequence[str]) -> str:
    """Join names by commas: the first few, and the number of the others."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
