"""Draw `aiofluence demo` as a moving picture: `python docs/make_recording.py` writes `_static/demo.svg`.

The script runs the demo's own story on the simulator, on virtual time, so equal code draws an equal picture.
A test checks that the committed picture shows the demo's present output. Not part of the package.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import attrs
from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.style import Style
from rich.text import Text

from aiofluence import Poll, RateLimit, Session
from aiofluence.cli.demo import PROFILE, warnings_shown
from aiofluence.cli.demo_script import UPDATE_INTERVAL, Story
from aiofluence.cli.live import LiveRow, Progress
from aiofluence.cli.rich_display import LiveDisplay
from aiofluence.simulator import Simulator, SimulatorServer, SimulatorWire, run_virtual

PICTURE = Path(__file__).parent / "_static" / "demo.svg"
SPEED = 35.0
"""Speed of the demo command."""
REST = 7.0
"""Seconds for which the picture shows the end before it starts again."""
COLUMNS, ROWS = 88, 27
WIDE, HIGH, SIZE = 8.4, 18, 14
"""Of a letter, in pixels: width, height with line spacing, and font size."""
SIDE, TOP, BOTTOM = 16, 40, 14
"""Pixels around the letters."""
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
"""Colours in the order of a terminal's colour numbers."""
CSS = f"""
.frame{{fill:#10141c;stroke:#2d3442}}
text{{fill:#d6dbe3;white-space:pre}}
text{{font:{SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}}
.title{{text-anchor:middle;fill:#8b94a3}}
.bold{{font-weight:bold}}.dim{{fill:#8b94a3}}
.red{{fill:#ff7b72}}.green{{fill:#3fb950}}.yellow{{fill:#e2b548}}.cyan{{fill:#56d4dd}}
@media (prefers-reduced-motion:reduce){{*{{animation:none!important}}}}
"""


@attrs.frozen
class Part:
    """Lines of output, shown at second `at`; if `instead`, they replace the part before."""

    at: float
    lines: list[Text]
    instead: bool


class Recorder(LiveDisplay):
    """A terminal display that records its output with times."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._written = io.StringIO()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.parts: list[Part] = []
        # Every setting that could differ between machines is explicit.
        console = Console(
            file=self._written,
            width=COLUMNS,
            height=40,
            force_terminal=True,
            color_system="standard",
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
            _environ={},
        )
        super().__init__(console, clock)
        console.print(Text.assemble(("$ ", "green"), ("aiofluence demo", "bold")))
        self._take()

    def seconds(self) -> float:
        """Return the seconds since the recording began."""
        return self._loop.time() - self._began

    def _take(self, *, instead: bool = False) -> None:
        """Add the output since the last call as a part."""
        lines = list(AnsiDecoder().decode(self._written.getvalue().removesuffix("\n")))
        self._written.seek(0)
        self._written.truncate()
        self.parts.append(Part(self.seconds(), lines, instead))

    def act(self, title: str) -> None:
        super().act(title)
        self._take()

    def say(self, text: str, *, aside: bool = False) -> None:
        super().say(text, aside=aside)
        self._take()

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        super().table(head, rows, right=right)
        self._take()

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        shown: list[str] = []
        last = -1.0

        def update(rows: Sequence[LiveRow], title: str = "", /) -> None:
            nonlocal shown, last
            now = [row.status for row in rows]
            # Each picture adds some kilobytes, so updates without a new status are limited to one per second.
            if now == shown and self.seconds() < last + 1:
                return
            self._console.print(self._instances(rows, {}, title))
            self._take(instead=bool(shown))
            shown, last = now, self.seconds()

        yield update


class LentClock(SimulatorWire):
    """The simulator in process, on the clock of a server."""

    def __init__(self, server: SimulatorServer) -> None:
        super().__init__(server.simulator, server.time_scale)
        self._server = server

    def now(self) -> float:
        return self._server.now()


async def play() -> tuple[list[Part], float]:
    """Play the demo like the command does; return its output and its duration in seconds."""
    simulator = Simulator(0, profile=PROFILE)
    # The server does not listen: it provides its name and its clock, which the wire uses too.
    server = SimulatorServer(simulator, port=8080, time_scale=SPEED)
    recorder = Recorder(server.now)
    async with Session(
        simulator.api_key,
        wire=LentClock(server),
        poll=Poll(interval=UPDATE_INTERVAL),
        rate=RateLimit(per_second=200, burst=100),
    ) as session:
        with warnings_shown(recorder):
            await Story(session, server, recorder, run_commands=False).play()
    return recorder.parts, recorder.seconds()


@attrs.frozen
class Line:
    """One line of the picture: its row, text, begin and end; an end of None is the end of the picture."""

    row: int
    text: Text
    begins: float | None
    ends: float | None


def lay_out(parts: Iterable[Part]) -> tuple[list[Line], list[tuple[float, int]]]:
    """Return every line with its place, and the number of rows from each second on."""
    lines: list[Line] = []
    grown: list[tuple[float, int]] = []
    rows = first = 0
    for part in parts:
        if not part.instead:
            first = rows
        rows = max(rows, first + len(part.lines))
        grown.append((part.at, rows))
        for row, text in enumerate(part.lines, first):
            if part.instead:
                index = max(i for i, line in enumerate(lines) if line.row == row)
                if lines[index].text == text:
                    continue
                lines[index] = attrs.evolve(lines[index], ends=part.at)
            # A new bottom line needs no begin: before that time, it is below the edge.
            lines.append(Line(row, text, part.at if part.instead else None, None))
    return lines, grown


def draw() -> str:
    """Return the current picture."""
    parts, took = run_virtual(play())
    lines, grown = lay_out(parts)
    whole = took + REST

    def percent(second: float) -> str:
        return f"{second / whole:.2%}"

    # The newest row is at the lower edge, as in a full terminal.
    steps = {percent(at): f"{{transform:translateY({(ROWS - rows) * HIGH}px)}}" for at, rows in grown}
    css = [
        f".scroll{{transform:translateY({(ROWS - grown[-1][1]) * HIGH}px)}}",
        f"@keyframes scroll{{{''.join(at + step for at, step in steps.items())}}}",
        f".scroll,.scroll g{{animation:scroll {whole:.1f}s step-end infinite}}",
    ]
    out = []
    spans = dict.fromkeys((line.begins, line.ends) for line in lines)
    for number, (begins, ends) in enumerate(spans):
        drawn = "\n".join(_line(line) for line in lines if (line.begins, line.ends) == (begins, ends))
        if begins is ends is None:
            out.append(drawn)
            continue
        hidden, visible = "{visibility:hidden}", "{visibility:visible}"
        frames = f"0%{visible if begins is None else hidden}"
        frames += f"{percent(begins)}{visible}" if begins is not None else ""
        frames += f"{percent(ends)}{hidden}" if ends is not None else ""
        css.append(f"@keyframes f{number}{{{frames}}}")
        rest = ";visibility:hidden" if ends is not None else ""
        css.append(f".scroll .f{number}{{animation-name:f{number}{rest}}}")
        out.append(f'<g class="f{number}">\n{drawn}\n</g>')

    width, height = COLUMNS * WIDE + 2 * SIDE, ROWS * HIGH + TOP + BOTTOM
    size = f'width="{width:g}" height="{height}" viewBox="0 0 {width:g} {height}"'
    buttons = "".join(f'<circle cx="{x}" cy="20" r="6"/>' for x in (20, 40, 60))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size}>
<title>aiofluence demo</title>
<style>{CSS}{chr(10).join(css)}
</style>
<rect class="frame" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1}" rx="8"/>
<g fill="#3a4252">{buttons}</g>
<text class="title" x="{width / 2:g}" y="25">aiofluence demo</text>
<svg x="{SIDE}" y="{TOP}" width="{COLUMNS * WIDE:g}" height="{ROWS * HIGH}">
<g class="scroll">
{chr(10).join(out)}
</g>
</svg>
</svg>
"""


def _line(line: Line) -> str:
    """Return one line. A leading symbol whose width differs between fonts becomes a text of its own."""
    plain = line.text.plain.rstrip()
    indent = len(plain) - len(plain.lstrip())
    if plain[indent : indent + 2].isascii() or plain[indent + 1] != " ":
        return _stretch(line, indent, len(plain))
    rest = len(plain) - len(plain[indent + 1 :].lstrip())
    return _stretch(line, indent, indent + 1) + _stretch(line, rest, len(plain))


def _stretch(line: Line, begin: int, end: int) -> str:
    """Return some letters of a line, stretched to their width in a terminal."""
    if begin == end:
        return ""
    pieces = []
    for segment in line.text[begin:end].render(Console(), end=""):
        kind = _class(segment.style)
        text = escape(segment.text)
        pieces.append(f'<tspan class="{kind}">{text}</tspan>' if kind and text.strip() else text)
    x, y = begin * WIDE, line.row * HIGH + SIZE
    return f'<text x="{x:g}" y="{y}" textLength="{(end - begin) * WIDE:g}">{"".join(pieces)}</text>'


def _class(style: Style | None) -> str:
    if style is None:
        return ""
    number = style.color.number if style.color is not None else None
    colour = "" if number is None else COLOURS[number]
    return " ".join(filter(None, ("bold" if style.bold else "", "dim" if style.dim else "", colour)))


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
