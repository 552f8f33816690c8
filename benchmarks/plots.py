"""Draws tables of the docs as bar charts: `python benchmarks/plots.py` writes docs/_static/*.svg.

The figures are only in the tables, and a test compares the pictures with them. This module measures nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

import attrs

DOCS = Path(__file__).parent.parent / "docs"
STYLE = (
    ".ground{fill:#f7f8fa}text{fill:#1d232b}.soft{fill:#4b5563}@media (prefers-color-scheme:dark)"
    "{.ground{fill:#1a1d23}text{fill:#f2f4f7}.soft{fill:#c2c8d2}}"
)


@attrs.frozen
class Plot:
    """A bar chart of one column or one row of a table.

    Attributes:
        page: page with the table.
        table: beginning of the table's header row.
        column: index of the cell with the value; the first number in the cell counts.
        title: title of the chart, with the unit.
        name: file name of the picture.
        row: None for a bar per row; else the first cell of the row, with a bar per column from `column` on.
    """

    page: str
    table: str
    column: int
    title: str
    name: str
    row: str | None = None

    def bars(self) -> Iterator[tuple[str, float]]:
        """Yield the label and value of each bar."""
        header, *rows = _table((DOCS / self.page).read_text(encoding="utf-8"), self.table)
        if self.row is not None:
            (cells,) = [row for row in rows if row[0] == self.row]
            pairs = list(zip(header[self.column :], cells[self.column :], strict=True))
        else:
            pairs = [(row[0], row[self.column]) for row in rows]
        for label, cell in pairs:
            if number := re.search(r"\d[\d,]*(\.\d+)?", cell):
                yield re.sub(r" \(.*\)", "", label), float(number[0].replace(",", ""))


PLOTS = [
    Plot("performance.md", "client CPU per call", 1, "Client CPU of one call, bare aiohttp = 1", "call"),
    Plot("waiting.md", "instances", 1, "Requests for each of 200 instances", "waiting", row="200"),
    Plot("money.md", "setting", 1, "Of 100 lives, those with two live of one name", "money"),
]


def _table(text: str, begins: str) -> list[list[str]]:
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {begins}"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def draw(plot: Plot) -> str:
    """Return the picture: a bar per value, ours in the accent colour, light or dark as the page."""
    bars = list(plot.bars())
    longest = max(value for _, value in bars)
    top, step, left, longest_bar = 46, 26, 300, 380
    height = top + step * len(bars) + 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(plot.title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="760" height="{height}" rx="8"/>',
        f'<text x="16" y="26" font-size="15" font-weight="600">{escape(plot.title)}</text>',
    ]
    for number, (label, value) in enumerate(bars):
        y = top + step * number
        ours = label.startswith("aiofluence") or plot.name == "money"
        width = max(longest_bar * value / longest, 1.5)
        out += [
            f'<text x="{left - 10}" y="{y + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{width:.1f}" height="16" rx="3" '
            f'fill="{"#0072b2" if ours else "#9aa5b1"}"/>',
            f'<text x="{left + width + 8:.1f}" y="{y + 14}" class="soft">{value:g}</text>',
        ]
    out.append(
        f'<text class="soft" x="744" y="{height - 10}" text-anchor="end" font-size="11">'
        "shorter is better</text>"
    )
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    for one in PLOTS:
        (DOCS / "_static" / f"{one.name}.svg").write_text(draw(one), encoding="utf-8")
