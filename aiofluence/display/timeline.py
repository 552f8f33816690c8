"""Timeline of a launch: one bar for each instance, its phases in colour, over seconds.

Pure: from times to SVG text, without dependencies. `batch` records the times. The colours are those of Okabe
and Ito, which colour-blind people can distinguish. The end of a bar has a shape as well as a colour.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs

from .table import escaped

Fate: TypeAlias = Literal["ready", "failed", "given up", "unknown"]

_PHASES: Final = ("queued", "posting", "provisioning", "starting", "running")
_FATES: Final[tuple[Fate, ...]] = ("ready", "failed", "given up", "unknown")
"""Fates in the order of their bands, from the top."""

_STYLE: Final = """
.aft{font:12px system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.aft .card{fill:#fff;stroke:#d5d9e0}.aft text{fill:#3c434f}
.aft .head{font-size:16px;font-weight:600;fill:#14181f}
.aft .grid{stroke:#e6e8ed}.aft .end{text-anchor:end}
.aft .queued{fill:#c3c8d1}.aft .posting{fill:#cc79a7}.aft .provisioning{fill:#56b4e9}
.aft .starting{fill:#0072b2}.aft .running{fill:#9ed8c5}
.aft .ready{fill:#009e73}.aft .failed{fill:#d55e00}.aft .given-up{fill:#757c89}.aft .unknown{fill:#e69f00}
.aft .mark{stroke:#fff;stroke-width:1.5;paint-order:stroke}.aft .mid{text-anchor:middle}
@media (prefers-color-scheme:dark){
.aft .card{fill:#1a1d23;stroke:#373d48}.aft text{fill:#c2c8d2}.aft .head{fill:#f2f4f7}
.aft .grid{stroke:#2d323b}.aft .queued{fill:#596170}.aft .running{fill:#1f6b54}
.aft .mark{stroke:#1a1d23}.aft .given-up{fill:#9aa1ad}}
""".replace("\n", "")

_WIDTH: Final = 960
_RIGHT: Final = 110
_TOP: Final = 104
_TALL: Final = 480
"""Pixels for all bars when there are too many to name each."""
_NAMED: Final = 40
"""Maximum number of instances with a name at each bar. Above it, each band has a name."""
_TICKS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)


@attrs.frozen
class Times:
    """Times of a spec's phases, in seconds since the start of the launch; None for a phase not seen.

    Attributes:
        posted: start of each deploy: the first, and one more for each fallback.
        named: the instance had an id, and cost money from then on.
        active: a poll showed the instance ACTIVE.
        ready: the instance had reached `until`.
        ended: the instance had failed, or was given up. The service may take some minutes more to end it.
    """

    posted: tuple[float, ...] = ()
    named: float | None = None
    active: float | None = None
    ready: float | None = None
    ended: float | None = None

    @property
    def last(self) -> float:
        """The latest known time."""
        known = (*self.posted, self.named, self.active, self.ready, self.ended)
        return max((moment for moment in known if moment is not None), default=0.0)

    def phases(self) -> Iterator[tuple[str, float, float]]:
        """Iterate over phases as (name, start, end)."""
        starts = (0.0, self.posted[0] if self.posted else None, self.named, self.active, self.ready)
        reached = [(phase, at) for phase, at in zip(_PHASES, starts, strict=True) if at is not None]
        ends = [*(at for _, at in reached[1:]), self.last]
        for (phase, start), end in zip(reached, ends, strict=True):
            if end > start:
                yield phase, start, end


@attrs.frozen
class Bar:
    """Data of one instance's bar."""

    name: str
    fate: Fate
    times: Times


@attrs.frozen(repr=False)
class Timeline:
    """A picture of a launch. Notebooks display it automatically.

    Attributes:
        svg: the picture as SVG text. Its background is light or dark, like the reader's screen.
    """

    svg: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to `path`, such as `"launch.svg"`.

        Raises:
            OSError: the file cannot be written.
        """
        Path(path).write_text(self.svg, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Timeline, {len(self.svg) // 1000 + 1} kB of SVG: .save(path)>"


def draw(bars: Iterable[Bar]) -> Timeline:
    """Draw `bars`: ready instances first, then the other fates, each sorted by end."""
    order = {fate: place for place, fate in enumerate(_FATES)}
    return Timeline(_Drawing(sorted(bars, key=lambda bar: (order[bar.fate], bar.times.last))).svg())


@attrs.frozen
class _Row:
    bar: Bar
    top: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


class _Drawing:
    """Layout and SVG of a drawing."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        self._bars = bars
        self._bands = [(fate, [bar for bar in bars if bar.fate == fate]) for fate in _FATES]
        self._end = max((bar.times.last for bar in bars), default=0.0) or 1.0
        self._named = len(bars) <= _NAMED
        labels = [_cut(bar.name, 28) for bar in bars] if self._named else [_count(*b) for b in self._bands]
        self._left = 36 + 7.0 * max(map(len, labels), default=0)
        self._every = -(-len(bars) // _TALL)
        self._rows = list(self._place())
        self._bottom = max((row.top + row.height for row in self._rows), default=_TOP) + 8

    def _place(self) -> Iterator[_Row]:
        """Iterate over one row per bar. With more bars than pixels, the last of each few represents them."""
        top = float(_TOP)
        for _, bars in self._bands:
            chosen = bars[::-1][:: self._every][::-1] if bars else []
            height = 18.0
            if not self._named:
                # A band of few bars must remain visible next to a band of many.
                height = max(_TALL / len(self._bars) * self._every, min(6.0, 60 / max(1, len(chosen))))
            for bar in chosen:
                yield _Row(bar, top, height)
                top += height
            if chosen and not self._named:
                top += 6

    def _x(self, seconds: float) -> float:
        return self._left + seconds / self._end * (_WIDTH - _RIGHT - self._left)

    def svg(self) -> str:
        height = round(self._bottom + 40)
        title, facts = self._title(), self._facts()
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="aft" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" style="max-width:100%;height:auto" role="img" '
            f'aria-label="{escaped(title)}. {escaped(facts)}.">',
            f"<title>{escaped(title)}</title>",
            f"<desc>{escaped(facts)}. A bar for each instance, over seconds since the launch began: "
            f"{', '.join(_PHASES[:4])}, and how it ended.</desc>",
            f"<style>{_STYLE}</style>",
            f'<rect class="card" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
            _text(24, 34, title, "head"),
            _text(24, 56, facts),
            *self._legend(),
            *(self._axis() if self._bars else ()),
            *(self._named_bars() if self._named else self._thin_bars()),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _title(self) -> str:
        counts = ", ".join(_count(fate, bars) for fate, bars in self._bands if bars)
        return f"Launch of {len(self._bars):,}: {counts}" if counts else "Nothing was launched"

    def _facts(self) -> str:
        ready = self._bands[0][1]
        if not ready:
            return (
                f"The last ended after {self._seconds(self._end)}"
                if self._bars
                else "There is no time to show"
            )
        first, half, slowest = (ready[place] for place in (0, (len(ready) - 1) // 2, -1))
        if len(self._bars) == 1:
            return f"Ready after {self._seconds(slowest.times.last)}"
        every = f" · each row the slowest of {self._every}" if self._every > 1 else ""
        return (
            f"First ready after {self._seconds(first.times.last)}"
            f" · half after {self._seconds(half.times.last)}"
            f" · slowest {_cut(slowest.name, 40)}, {self._seconds(slowest.times.last)}{every}"
        )

    def _seconds(self, moment: float) -> str:
        return f"{moment:.1f} s" if self._end < 10 else f"{moment:,.0f} s"

    def _legend(self) -> Iterator[str]:
        """Iterate over entries for the phases and fates in the picture."""
        phases = {phase for bar in self._bars for phase, _, _ in bar.times.phases()}
        x = 24.0
        for phase in _PHASES:
            if phase in phases:
                yield f'<rect class="{phase}" x="{x:g}" y="72" width="14" height="10" rx="2"/>'
                yield _text(x + 20, 81, phase)
                x += 44 + 6.4 * len(phase)
        for fate, bars in self._bands:
            if bars:
                yield _mark(fate, x + 6, 77)
                yield _text(x + 18, 81, fate)
                x += 42 + 6.4 * len(fate)

    def _axis(self) -> Iterator[str]:
        step = next((tick for tick in _TICKS if self._end / tick <= 10), self._end / 10)
        for count in range(int(self._end / step) + 1):
            x = self._x(count * step)
            yield f'<path class="grid" d="M{x:.1f} {_TOP - 6}V{self._bottom:g}"/>'
            yield _text(x, self._bottom + 18, f"{count * step:,g}" if count else "0 s", "mid")
        yield _text(_WIDTH - 24, self._bottom + 18, "seconds", "end")

    def _named_bars(self) -> Iterator[str]:
        for row in self._rows:
            bar, times = row.bar, row.bar.times
            end = self._x(times.last)
            yield f"<g><title>{escaped(self._story(bar))}</title>"
            yield _text(self._left - 10, row.middle + 4, _cut(bar.name, 28), "end")
            for phase, start, until in times.phases():
                yield f'<path class="{phase}" d="{self._box(row, start, until, 3)}"/>'
            yield _mark(bar.fate, end, row.middle)
            plan = f", {_ordinal(len(times.posted))} plan" if len(times.posted) > 1 else ""
            yield _text(end + 11, row.middle + 4, self._seconds(times.last) + plan)
            yield "</g>"

    def _story(self, bar: Bar) -> str:
        steps = (f"{phase} until {self._seconds(end)}" for phase, _, end in bar.times.phases())
        return f"{bar.name}: {', '.join(steps)}; {bar.fate}"

    def _thin_bars(self) -> Iterator[str]:
        for phase in _PHASES:
            boxes = [
                self._box(row, start, end, 0.5 if row.height >= 3 else 0)
                for row in self._rows
                for name, start, end in row.bar.times.phases()
                if name == phase
            ]
            if boxes:
                yield f'<path class="{phase}" d="{"".join(boxes)}"/>'
        for fate, bars in self._bands:
            rows = [row for row in self._rows if row.bar.fate == fate]
            if not rows:
                continue
            ends = (
                f"M{self._x(row.bar.times.last):.1f} {row.top:.2f}h4v{row.height:.2f}h-4z" for row in rows
            )
            yield f'<path class="{_class(fate)}" d="{"".join(ends)}"/>'
            middle = (rows[0].top + rows[-1].top + rows[-1].height) / 2
            yield _text(self._left - 10, middle + 4, _count(fate, bars), "end")

    def _box(self, row: _Row, start: float, end: float, margin: float) -> str:
        left, height = self._x(start), row.height - 2 * margin
        width = max(self._x(end) - left, 0.75)
        return f"M{left:.1f} {row.top + margin:.2f}h{width:.1f}v{height:.2f}h-{width:.1f}z"


def _count(fate: Fate, bars: Sequence[Bar]) -> str:
    return f"{len(bars):,} {fate}"


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _class(fate: Fate) -> str:
    return fate.replace(" ", "-")


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escaped(text)}</text>'


def _mark(fate: Fate, x: float, y: float) -> str:
    shape = {
        "ready": f"M{x - 5:.1f} {y:.1f}a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
        "failed": f"M{x:.1f} {y - 2:.1f}l3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3 2-2z",
        "given up": f"M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9z",
        "unknown": f"M{x:.1f} {y - 6:.1f}l6 11h-12z",
    }[fate]
    return f'<path class="mark {_class(fate)}" d="{shape}"/>'
