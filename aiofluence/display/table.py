"""Display of plans, offers and instances: a short repr, and a table in notebooks.

Text only, and independent of the displayed objects. All external text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, SupportsIndex, TypeAlias, TypeVar, overload

Cell: TypeAlias = str | int | Decimal | None
"""Text, a number (aligned to the right), or nothing."""

_IN_NOTEBOOKS: Final = 100
"""Maximum number of rows of a list in a notebook."""
_IN_REPRS: Final = 10
"""Maximum number of rows of a list in its repr."""
_IN_CELLS: Final = 300
"""Maximum number of characters of a text in one cell."""


class Row:
    """Base class of objects that are one row of a table, and one line as a repr.

    The repr is short on purpose, and not Python code. `attrs.asdict` has every field.
    """

    __slots__ = ()

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        """Return the displayed values by column, the name first. Ages are relative to `at`.

        A repr shows the columns up to the id, a table all columns.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        said: list[str] = []
        for column, cell in self._cells().items():
            if not said:
                said.append(repr(_cut(cell) if isinstance(cell, str) else cell))
            elif cell not in (None, ""):
                said.append(short(cell) if isinstance(cell, str) else f"{_plain(cell)} {column}")
            if column == "id":
                break
        return f"<{type(self).__name__} {', '.join(said)}>"


T = TypeVar("T")


class Table(list[T]):
    """A list that a notebook shows as a table, with one row per line in its repr. Long lists are cut.

    Attributes:
        at: time of the reply, by the service's clock; None if unknown. Ages in the table are relative to
            `at`, so that they do not change with the time of display.
        left_out: an error for each unreadable part of the reply that is missing here: a row, or all plans of
            one kind.
    """

    def __init__(
        self, rows: Iterable[T] = (), *, at: datetime | None = None, left_out: Iterable[Exception] = ()
    ) -> None:
        super().__init__(rows)
        self.at: datetime | None = at
        self.left_out: tuple[Exception, ...] = tuple(left_out)

    @overload
    def __getitem__(self, place: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Table[T]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> T | Table[T]:
        if isinstance(place, slice):
            return Table(super().__getitem__(place), at=self.at, left_out=self.left_out)
        return super().__getitem__(place)

    def __repr__(self) -> str:
        lines = [repr(row) for row in self[:_IN_REPRS]]
        if len(self) > _IN_REPRS:
            lines.append(f"… and {len(self) - _IN_REPRS} more")
        if self.left_out:
            lines.append(f"… and {len(self.left_out)} left out")
        return "[" + ",\n ".join(lines) + "]"

    def _repr_html_(self, remark: str = "") -> str:
        rows = [_cells_of(row, self.at) for row in self[:_IN_NOTEBOOKS]]
        when = f"as of {_moment(self.at)}" if self.at is not None else ""
        less = f"{len(self.left_out)} left out" if self.left_out else ""
        return _html_table(rows, len(self), ", ".join(filter(None, [remark or when, less])))


def _html_table(rows: Sequence[Mapping[str, Cell]], total: int, remark: str = "") -> str:
    """Return `rows` as an HTML table, with every cell escaped and the total number of rows below."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    used = [column for column in columns if any(row.get(column) not in (None, "") for row in rows)]
    numbers = {c for c in used if all(isinstance(row.get(c), int | Decimal | None) for row in rows)}
    head = "".join(_html_cell("th", column, column in numbers) for column in used)
    body = "".join(
        "<tr>" + "".join(_html_cell("td", _plain(row.get(c)), c in numbers) for c in used) + "</tr>\n"
        for row in rows
    )
    size = f"{len(rows)} of {total}" if len(rows) < total else f"{total}"
    foot = ", ".join(filter(None, [f"{size} {'row' if total == 1 else 'rows'}", remark]))
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>\n" if rows else ""
    return f"<div>{table}<small>{escaped(foot)}</small></div>"


def visible(text: str) -> str:
    """Return `text` on one line, without the characters that a terminal would obey instead of show."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def short(text: str) -> str:
    """Return `text` as from `visible`, cut after a few hundred characters."""
    return visible(_cut(text))


def encodable(text: str) -> str:
    """Return `text` with `?` for lone surrogates, which no stream can write."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def escaped(text: str) -> str:
    """Return `text` for HTML and SVG: no markup, and no character that they do not permit."""
    import html  # its table of 2000 names costs every command 2 ms

    return html.escape(visible(text))


def age(created: datetime, at: datetime | None) -> str:
    """Return the age at a moment: `3 min`, `5.2 h`, `12 d`; without `at`, `since 2026-11-23 14:02 UTC`."""
    if at is None:
        return f"since {_moment(created)}"
    seconds = max(timedelta(), at - created).total_seconds()
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _cells_of(row: object, at: datetime | None) -> Mapping[str, Cell]:
    return row._cells(at) if isinstance(row, Row) else {"": repr(row)}


def _plain(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:f}" if isinstance(cell, Decimal) else _cut(str(cell))


def _cut(text: str) -> str:
    return text if len(text) <= _IN_CELLS else f"{text[: _IN_CELLS - 1]}…"


def _html_cell(tag: str, text: str, number: bool) -> str:
    # Notebooks have this padding anyway. Elsewhere, a number would touch the next column.
    side = "right" if number else "left"
    return f'<{tag} style="text-align:{side};padding:.3em .6em">{escaped(text)}</{tag}>'


def minutes(seconds: float) -> str:
    """Format seconds as minutes: `3:07` for 187 seconds."""
    whole = int(max(0.0, seconds))
    return f"{whole // 60}:{whole % 60:02d}"
