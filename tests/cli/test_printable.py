"""Text for a terminal: the pure function, both displays, which show nothing without it, and notes."""

from __future__ import annotations

import io
from uuid import UUID

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from aiofluence.cli.console import note
from aiofluence.cli.live import LiveRow, PlainDisplay
from aiofluence.cli.printable import printable
from aiofluence.cli.rich_display import LiveDisplay
from aiofluence.display.table import minutes

NASTY = "\x1b[2J\rdemo\u202etxt\x9b31m\n[bold]:smile:\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("step 10 loss 9.1", "step 10 loss 9.1"),
        ("Größe 模型 ✓", "Größe 模型 ✓"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("50%\r100%\n", r"50%\r100%\n"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("abc\u202egpj.exe\u2066\u200f", r"abc\u202egpj.exe\u2066\u200f"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("one\u2028two", r"one\u2028two"),
        ("a\tb\u00a0c", "a b c"),
        ("\udc80", r"\udc80"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_printable_text_is_one_stable_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert len(shown.splitlines()) <= 1


def test_the_plain_display_escapes_everything(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay(lambda: 187.0)
    display.act(NASTY)
    display.say(NASTY, aside=True)
    display.table((NASTY, "n"), [(NASTY, "1")], right=(1,))
    with display.progress() as update:
        update([LiveRow(NASTY, NASTY, NASTY, 1.0, NASTY, NASTY)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6  # an empty one before the act
    assert all(line.isprintable() and line.startswith("  3:07  ") for line in lines[1:])
    assert all("[bold]:smile:" in line for line in lines[1:])


def test_the_live_display_escapes_everything() -> None:
    screen = io.StringIO()
    # Dressed as a terminal without colours or cursor: whatever escape is left is not rich's own.
    console = Console(file=screen, width=200, force_terminal=True, color_system=None, highlight=False)
    display = LiveDisplay(console, lambda: 187.0)
    display.act(NASTY)
    display.say(NASTY)
    display.say(NASTY, aside=True)
    display.table((NASTY, "n"), [(NASTY, "1")], right=(1,))
    display._console.print(display._instances([LiveRow(NASTY, NASTY, NASTY, 1.0, "0.1", NASTY)], {}))
    for line in screen.getvalue().split("\n"):
        assert line.isprintable(), line
    assert screen.getvalue().count("[bold]:smile:") >= 8


def test_only_what_is_ready_has_a_tick() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=100, force_terminal=True, color_system=None, highlight=False)
    rows = [
        LiveRow(status, "1x t4", status, 1.0, "0.1", busy=False)
        for status in ("active", "failed", "terminated", "unknown")
    ]
    console.print(LiveDisplay(console, lambda: 0.0)._instances(rows, {}))
    assert [line.split()[0] for line in screen.getvalue().splitlines() if "0.1" in line] == [
        "✓",
        "✗",
        "-",
        "-",
    ]


def test_progress_prints_changes_only(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainDisplay(lambda: 0.0).progress() as update:
        for age in range(5):
            update([LiveRow("demo-1", "1x t4", "ACTIVE" if age > 3 else "INITIALIZED", age, "0.14")])
    told = capsys.readouterr().out.split()
    assert told == ["0:00", "demo-1", "INITIALIZED", "0:00", "demo-1", "ACTIVE"]


def test_notes_are_folded_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"  aiofluence terminate --yes {' '.join(str(UUID(int=number)) for number in range(3))}"
    monkeypatch.setenv("COLUMNS", "60")
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda found=is_terminal: found)
        note(f"  {'word ' * 20}{'x' * 70}")
        note(command)
    in_pipe, _, *folded, copied = capsys.readouterr().err.splitlines()
    assert in_pipe == f"  {'word ' * 20}{'x' * 70}"
    assert folded == [f"  {' '.join(['word'] * 11)}", f"  {' '.join(['word'] * 9)}", f"  {'x' * 70}"]
    assert copied == command, "can be copied"


def test_minutes() -> None:
    assert [minutes(seconds) for seconds in (0, 59.9, 187, 3600, -1)] == [
        "0:00",
        "0:59",
        "3:07",
        "60:00",
        "0:00",
    ]
