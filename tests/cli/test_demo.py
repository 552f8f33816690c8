"""`aiofluence demo` as a process of its own: what it says, how it ends, on a pipe and on a terminal.

Each run is over real HTTP and in real seconds, so they are few; all but one run in a faster time-lapse.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from asyncio import get_running_loop
from collections.abc import Mapping

import pytest

from aiofluence import FluenceError, NotSentError
from aiofluence.cli import main
from aiofluence.cli.exit_codes import explain

from ..harness import is_gone
from ..programs import Program, run_program

MAIN = "import sys; from aiofluence.cli import main; sys.exit(main())"
# A process that a script starts in the background ignores Ctrl-C, and its children inherit that.
INTERRUPTIBLE = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {MAIN}"
WITHOUT_RICH = f"import sys; sys.modules['rich'] = None; {MAIN[len('import sys; ') :]}"
FAST = ("demo", "--speed", "200")
# Slower, since processes take real time: their logs are followed for 100 / 40 seconds.
REAL = ("demo", "--exec", "--speed", "40")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals are POSIX's")


def run(*arguments: str, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    """Run a command in a process whose modules are imported already."""
    return run_program(code, *arguments, warnings="error")


def run_new(
    *arguments: str, code: str = MAIN, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


ACTS = [
    "A simulated Fluence GPU Cloud at http://127.0.0.1:",
    "== What can be rented, cheapest first ==",
    "container  1x t4",
    "vm         1x rtxa6000",
    "== Launching four containers and a VM at once ==",
    "demo-1   provisioning",
    "demo-1   active",
    "== demo-4 was made to fail: the error brings the reason along ==",
    "InstanceFailedError: container demo-4 (",
    "== Logs of demo-1, as they come ==",
    "Starting entrypoint",
    "step 10 loss",
    "== What the cluster says about demo-1 ==",
    "Scheduled: Successfully assigned",
    "Started: Started container",
    "== Updating demo-1: a new command, all else as it was ==",
    "s: python train.py --epochs 3",
    "== The bill so far, in USDC ==",
    "demo-4   FAILED      0.00   0.00      0.00",
    "demo-vm  ACTIVE      0.44   0.44      0.87",
    "total                0.86   0.86      1.71",
    "== Terminating everything at once ==",
    "demo-vm: the service ends it only after 20 minutes of runtime, about 1",
    "demo-1   ENDED, 0.28 USDC refunded",
    "demo-vm  ENDED, 0.87 USDC refunded",
    "== Summary ==",
    "launched      4 ready, 1 failed on purpose and refunded",
    "cost          ",
    "left running  0",
]


async def test_a_pipe_gets_every_act_in_plain_ascii() -> None:
    began = get_running_loop().time()
    # The strictest output there is: a single letter beyond ASCII would be an error.
    done = run_new("demo", env={"PYTHONIOENCODING": "ascii:strict", "FORCE_COLOR": "1"})
    assert get_running_loop().time() - began < 90  # twenty seconds on an idle machine
    assert (done.returncode, done.stderr) == (0, "")
    position = 0
    for act in ACTS:
        found = done.stdout.find(act, position)
        assert found >= 0, f"{act!r} is missing after {done.stdout[:position][-200:]!r}"
        position = found + len(act)
    # The machine's second hour begins where this machine is so busy that it ends late.
    assert re.search(r"cost +(0\.86|1\.29) USDC, had it been real", done.stdout)
    assert done.stdout.endswith("left running  0\n")
    lines = done.stdout.splitlines()
    assert all(re.fullmatch(r"|[ -~]+", line) for line in lines)
    told = [re.match(r" *(\d+):(\d\d)  ", line) for line in lines if line]
    assert all(told), "a line does not begin with the simulated time"
    times = [int(match[1]) * 60 + int(match[2]) for match in told if match]
    assert times == sorted(times)
    assert times[-1] > 120


@needs_signals
@pytest.mark.parametrize("moment", ["== Launching", "demo-vm  provisioning", "active", "== Logs"])
def test_ctrl_c_of_the_demo_ends_everything(moment: str) -> None:
    with Program(INTERRUPTIBLE, *FAST, warnings="error") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        else:
            pytest.fail(f"{moment!r} never came")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, err) == (130, "")
    *_, last = out.splitlines()
    assert last.endswith("Interrupted: everything is terminated, 0 left running.")
    assert "Summary" not in out


@needs_signals
def test_exec_shows_output_of_real_processes() -> None:
    done = run(*REAL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoch 1 step 1 in process" in done.stdout
    assert "echo epoch 2" in done.stdout
    assert done.stdout.endswith("left running  0\n")


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_the_processes_along(number: signal.Signals) -> None:
    with Program(INTERRUPTIBLE, *REAL, warnings="error") as process:
        assert process.stdout is not None
        told = next(line for line in process.stdout if "in process" in line)
        group = int(told.split()[-1])
        assert os.getpgid(group) == group
        process.send_signal(number)
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "")
    while not is_gone(group):  # killed, and not all of it has died yet
        time.sleep(0.02)


@needs_signals
def test_a_reader_that_leaves_early_is_no_crash() -> None:
    with Program(MAIN, *FAST, warnings="error") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


@needs_signals
def test_a_terminal_is_redrawn() -> None:
    code, out = run_on_terminal(60, {"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert code == 0
    assert "\x1b[1A" in out, "nothing is redrawn"
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1, "the cursor is hidden and not shown again"
    assert not re.search(r"\x1b\[[0-9;]*\b[34]\d\b[0-9;]*m", out), "colours, in spite of NO_COLOR"
    shown = re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", out)
    assert max(len(line) for line in re.split(r"[\r\n]+", shown)) <= 60
    assert "Interrupted" not in shown
    assert shown.rstrip().endswith("left running  0")


@needs_signals
def test_a_dumb_terminal_gets_plain_lines() -> None:
    code, out = run_on_terminal(80, {"TERM": "dumb"})
    assert code == 0
    assert "\x1b" not in out
    assert "== Summary ==" in out


def run_on_terminal(columns: int, env: Mapping[str, str]) -> tuple[int, str]:
    """Run the demo on a pseudo-terminal; gives the exit code and every byte it wrote."""
    import pty
    import termios

    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (40, columns))
    # What the test's own surroundings say about terminals must not decide.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    }
    with Program(
        MAIN, *FAST, warnings="error", stdin=inside, stdout=inside, stderr=inside, env={**inherited, **env}
    ) as process:
        os.close(inside)
        written = b""
        with contextlib.suppress(OSError):  # how Linux says that the other side is closed
            while chunk := os.read(outside, 65536):
                written += chunk
        os.close(outside)
        return process.wait(), written.decode()


def test_demo_plays_without_rich() -> None:
    done = run(*FAST, code=WITHOUT_RICH)
    assert (done.returncode, done.stderr) == (0, "")
    assert "left running" in done.stdout


def test_import_loads_no_extra() -> None:
    loaded = (
        "import sys, aiofluence.cli; from aiofluence import Session;"
        "print({'rich', 'aiohttp', 'aiofluence.simulator'} & set(sys.modules))"
    )
    assert run_new(code=loaded).stdout == "set()\n"


@pytest.mark.parametrize("speed", ["0", "501", "nan", "fast"])
def test_a_speed_that_makes_no_sense_is_refused(speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--speed", speed]) == 2
    assert f"'{speed}' is not a number from 1 to 500" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in [
        ("--version", "aiofluence 0."),
        ("--help", "demo"),
        ("demo --help", "--seed N"),
        ("help", "Commands:"),
        ("help demo", "--seed N"),
    ]:
        assert main(arguments.split()) == 0
        assert expected in capsys.readouterr().out
    assert main([]) == 2
    assert "Usage: aiofluence" in capsys.readouterr().err


def test_a_failure_is_one_line_for_each_cause(capsys: pytest.CaptureFixture[str]) -> None:
    causes = [NotSentError("no route\x1b[31m"), OSError("address in use\nindeed")]
    error = ExceptionGroup("several", [causes[0], ExceptionGroup("inner", [causes[1]])])
    assert explain(error, "aiofluence demo") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        r"aiofluence demo: no route\x1b[31m",
        "aiofluence demo: address in use",
        "  indeed",
    ]


def test_a_bug_keeps_its_traceback() -> None:
    bug = ExceptionGroup("several", [FluenceError("a failure"), ZeroDivisionError()])
    with pytest.raises(ExceptionGroup) as caught:
        explain(bug)
    assert caught.value is bug
