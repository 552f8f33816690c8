"""The command as a process of its own: exit codes, Ctrl-C once and twice, SIGTERM, completion, what it loads.

Where minutes must pass, the process brings the simulated cloud along, on virtual time, and says at its end
what is left of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from aiofluence.simulator import DEFAULT_API_KEY, Simulator, SimulatorServer

from ..programs import Program, run_program
from .conftest import SSH

MAIN = "import sys; from aiofluence.cli import main; sys.exit(main())"

WITH_CLOUD = """
import asyncio, json, os, signal, sys
from aiofluence.cli import main
from aiofluence.simulator import DEFAULT_API_KEY, Provisioning, Simulator, SimulatorServer, VirtualClockLoop

median, signals, *arguments = sys.argv[1:]
simulator = Simulator(provisioning=Provisioning(median=float(median), sigma=0.0))

class Loop(VirtualClockLoop):
    def __init__(self):
        super().__init__()
        self.server = SimulatorServer(simulator)
        self.run_until_complete(self.server.__aenter__())
        os.environ["FLUENCE_BASE_URL"] = self.server.url
        for at, name in enumerate(signals.split(), 1):
            self.call_later(30 * at, signal.raise_signal, getattr(signal, name))

    def close(self):
        if not self.is_closed():
            self.run_until_complete(self.server.__aexit__(None, None, None))
        super().close()

asyncio.events.new_event_loop = Loop
os.environ["FLUENCE_API_KEY"] = DEFAULT_API_KEY
# A process that a script starts in the background ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
plan = simulator.catalog.find("container").id
code = main([argument.replace("PLAN", plan) for argument in arguments])
left = {"live": [i.id for i in simulator.live()], "all": len(simulator.instances())}
print(json.dumps(left | {"reserved": str(simulator.reserved())}))
sys.exit(code)
"""
DEPLOY = ("deploy", "exp-1", "--plan", "PLAN", *SSH)
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")


def run(*arguments: str, code: str = MAIN, **options: Any) -> Any:
    """Run a command in a process whose modules are imported already."""
    return run_program(code, *arguments, warnings="error", **options)


def run_new(*arguments: str, code: str = MAIN, env: Mapping[str, str] | None = None) -> Any:
    """Run a command in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


def run_with_cloud(median: float, signals: str, *arguments: str) -> tuple[int, str, Any]:
    """The exit code, what was told on stderr, and what is left of the cloud."""
    done = run(str(median), signals, *arguments, code=WITH_CLOUD)
    *_, last = done.stdout.splitlines() or [done.stderr]
    return done.returncode, done.stderr, json.loads(last)


@needs_signals
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_leaves_nothing_running(number: str, code: int) -> None:
    returncode, told, left = run_with_cloud(150, number, *DEPLOY)
    assert returncode == code, told
    assert left == {"live": [], "all": 1, "reserved": "0"}
    assert told.splitlines()[-1] == "Interrupted: exp-1 ended, none is left running."
    assert "Traceback" not in told


@needs_signals
def test_a_second_ctrl_c_names_instances() -> None:
    returncode, told, left = run_with_cloud(1e6, "SIGINT SIGINT", *DEPLOY)
    assert returncode == 130, told
    (live,) = left["live"]
    assert "A second Ctrl-C leaves at once" in told
    assert "may still be running, and billing" in told
    assert live in told
    assert "none is left" not in told
    assert told.splitlines()[-1] == f"  aiofluence terminate --yes {live}"
    assert "Traceback" not in told


BATCH = """
[[instance]]
name = "exp-{i}"
count = 2
max_hourly = 1
image = "nginx"
expose = [8080]
"""


@needs_signals
def test_clean_up_shows_counts_and_statuses(tmp_path: Path) -> None:
    (tmp_path / "batch.toml").write_text(BATCH)
    done = run("150", "SIGINT", "launch", str(tmp_path / "batch.toml"), code=WITH_CLOUD)
    assert done.returncode == 130
    assert done.stdout.count("INITIALIZED  ending") == 2
    assert "terminated" not in done.stdout
    lines = [line for line in done.stderr.splitlines() if "Ctrl-C again leaves" in line]
    assert lines[0] == "0 of 2 ended; Ctrl-C again leaves 2 running"
    assert any("about " in line for line in lines)
    assert len(lines) <= 10, "no flood behind a pipe"
    assert "closing:" not in done.stderr, "the library does not say the same again"
    *_, last = done.stderr.splitlines()
    assert last == "Interrupted: exp-0, exp-1 ended, none is left running."


@needs_signals
@pytest.mark.parametrize("with_journal", [False, True])
def test_a_second_ctrl_c_gives_one_advice(with_journal: bool, tmp_path: Path) -> None:
    (tmp_path / "batch.toml").write_text(BATCH)
    journal = tmp_path / "my run.journal"
    flags = ("--journal", str(journal)) if with_journal else ()
    done = run("1e6", "SIGINT SIGINT", "launch", str(tmp_path / "batch.toml"), *flags, code=WITH_CLOUD)
    assert done.returncode == 130
    live = json.loads(done.stdout.splitlines()[-1])["live"]
    told = done.stderr
    assert len(live) == 2
    assert told.count("may still be running, and billing") == 1
    advice = [line for line in told.splitlines() if line.startswith("  aiofluence")]
    ways = [f"  aiofluence sweep --journal '{journal}'"] if with_journal else []
    assert advice == (ways or [f"  aiofluence terminate --yes {' '.join(sorted_by_name(told, live))}"])
    assert all(f"({id})" in told for id in live)
    assert "sweep()" not in told, "that is advice for a program"
    assert "Traceback" not in told


def sorted_by_name(told: str, ids: list[str]) -> list[str]:
    return sorted(ids, key=lambda id: told.index(f"({id})"))


def test_ctrl_c_before_the_command_has_begun() -> None:
    code = (
        "import sys; from aiofluence.cli import main\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'argparse': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting()); sys.exit(main())"
    )
    done = run_new("ls", code=code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_whole_life_in_one_process() -> None:
    assert run_with_cloud(150, "", *DEPLOY)[0] == 0


async def test_exit_codes() -> None:
    simulator = Simulator()
    async with SimulatorServer(simulator) as server:
        env = {"FLUENCE_API_KEY": DEFAULT_API_KEY, "FLUENCE_BASE_URL": server.url}

        async def code(*arguments: str, **other: str) -> int:
            done = await asyncio.to_thread(run, *arguments, env=os.environ | env | other)
            assert "Traceback" not in done.stderr
            return int(done.returncode)

        plan = simulator.catalog.find("container").id
        flags = ("--plan", plan, *SSH, "--no-wait")
        assert await code("deploy", "exp-1", *flags) == 0
        codes = await asyncio.gather(
            code("show", "nothing"), code("show"), code("wait", "exp-1", "--timeout", "0.1")
        )
        assert [*codes] == [1, 2, 124]
        assert [instance.name for instance in simulator.live()] == ["exp-1"]


NETWORK = ["aiohttp", "cattrs", "aiofluence.session", "aiofluence.http.transport"]
UNUSED = ["rich", "pydantic", "typer", "aiofluence.simulator", "aiofluence.cli.completion"]


WAITS = [
    *("aiofluence.batch", "aiofluence.tail", "aiofluence.lifecycle.parts", "aiofluence.polling.state"),
    *("aiofluence.resources.drift", "aiofluence.http.error_mapping", "aiofluence.http.redaction", "html"),
    *("anyio", "backoff", "cattrs", "difflib", "importlib.metadata", "tomllib"),
]


class Empty(BaseHTTPRequestHandler):
    """A service of an account without instances, and without anything for rent."""

    def do_GET(self) -> None:
        """Return an empty list."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], NETWORK + UNUSED),
        (["deploy", "--help"], NETWORK + UNUSED),
        (["completion", "bash"], NETWORK + UNUSED[:-1]),
        (["--complete", "deploy", "x", "--dr"], NETWORK + UNUSED[:-1]),
        (["ls"], [*UNUSED, *WAITS, "aiofluence.public"]),
        (["plans"], [*UNUSED, "aiofluence.inventory", "aiofluence.cli.batch_file"]),
    ],
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], forbidden: list[str]) -> None:
    loaded = (
        "import json, sys; before = {*sys.modules}; from aiofluence.cli import main; main(sys.argv[2:]);"
        "print(json.dumps(sorted({*json.loads(sys.argv[1])} & {*sys.modules} - before)))"
    )
    with HTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        env = {"FLUENCE_API_KEY": "k", "FLUENCE_BASE_URL": url, "COLUMNS": "80"}
        done = run_new(json.dumps(forbidden), *arguments, code=loaded, env=env)
        server.shutdown()
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "aiofluence", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("aiofluence ")


def test_the_simulator_by_this_name() -> None:
    done = run("simulator", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: aiofluence simulator")
    assert "--time-scale" in done.stdout


@needs_signals
def test_a_reader_that_leaves_early_is_no_crash() -> None:
    with Program(WITH_CLOUD, "150", "", "plans", warnings="error") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def closed(*numbers: int, arguments: tuple[str, ...] = ("plans",)) -> Any:
    """Run a command with these standard streams closed, as `>&-` does."""
    return run("150", "", *arguments, code=WITH_CLOUD, closed=numbers)


@needs_signals
@pytest.mark.parametrize("arguments", [("plans",), ("plans", "--json"), ("images",), ("ls", "--json")])
def test_a_closed_stdout_is_no_crash(arguments: tuple[str, ...]) -> None:
    done = closed(1, arguments=arguments)
    assert done.returncode == 1
    assert done.stderr == "aiofluence: stdout is closed, and the result could not be written\n"


@needs_signals
def test_a_closed_stdout_names_the_deployed() -> None:
    done = closed(1, arguments=DEPLOY)
    assert done.returncode == 1
    assert "Running, and billing: container exp-1" in done.stderr
    assert "Traceback" not in done.stderr


@needs_signals
def test_a_closed_stderr_is_no_crash() -> None:
    done = closed(2)
    assert done.returncode == 0
    assert "h100" in done.stdout
    assert closed(2, arguments=("show", "nothing")).returncode == 1


@needs_signals
def test_all_streams_closed() -> None:
    # A new interpreter, whose start opens the streams.
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    command = [*shell, sys.executable, "-c", WITH_CLOUD, "150", "", "plans"]
    assert subprocess.run(command, check=False).returncode == 1
    assert closed(0, arguments=("launch", "-")).returncode == 2


@needs_signals
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("demo", "--speed", "500")])
def test_a_full_disk_is_told_once(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr.count("No space left") == 1
    assert "Traceback" not in done.stderr


@needs_signals
@pytest.mark.parametrize("arguments", [("launch", "-"), ("launch", "-", "--json"), DEPLOY])
def test_instances_are_named_without_a_reader(arguments: tuple[str, ...], tmp_path: Path) -> None:
    if arguments[0] == "launch":
        arguments = (*arguments, "--timeline", str(tmp_path / "launch.svg"))
    with Program(WITH_CLOUD, "150", "", *arguments, warnings="error") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, told = process.communicate(BATCH)
        assert process.returncode == 1
    *_, last = told.splitlines()
    assert last.startswith("Running, and billing: container exp-")
    assert last.count("container exp-") == (2 if arguments[0] == "launch" else 1)
    assert "Traceback" not in told
    assert (tmp_path / "launch.svg").exists() == (arguments[0] == "launch")
