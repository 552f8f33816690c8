"""What commands print: a table or fields for people, JSON for scripts, and notes beside both on stderr.

For people every text goes through `printable`; in JSON it is exactly what it is. What JSON shapes there are
is `shapes`' business.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .printable import printable


def prepare() -> None:
    """Make the standard streams safe to use.

    A closed one (`>&-`) becomes the null device, and a letter that the output's encoding lacks is escaped.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # In this order each takes the number of the closed one, which no socket or file gets then.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
