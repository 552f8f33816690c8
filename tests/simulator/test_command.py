"""`python -m aiofluence.simulator` as a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

COMMAND = [sys.executable, "-W", "error", "-m", "aiofluence.simulator"]


@contextmanager
def running(*arguments: str, under: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*under, *COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def exports(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    assert all(line.startswith("export ") for line in lines), lines
    name_and_value = (line.removeprefix("export ").strip().partition("=") for line in lines)
    return {name: value for name, _, value in name_and_value}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_leaves_cleanly(number: signal.Signals) -> None:
    with running("--port", "0", "--balance", "12.5", "--seed", "3", "--time-scale", "10") as process:
        told = exports(process)
        assert set(told) == {"FLUENCE_API_KEY", "FLUENCE_BASE_URL"}
        asked = urllib.request.Request(
            f"{told['FLUENCE_BASE_URL']}/gpu/plans/", headers={"X-API-KEY": told["FLUENCE_API_KEY"]}
        )
        with urllib.request.urlopen(asked) as reply:
            assert len(json.load(reply)) >= 12
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("profile", ["likely", "kind"])
def test_the_profile_is_an_option(profile: str) -> None:
    with running("--port", "0", "--profile", profile, "--failure-rate", "0.5") as process:
        url = exports(process)["FLUENCE_BASE_URL"]
        with urllib.request.urlopen(f"{url}/_sim/profile") as reply:
            shown = json.load(reply)
    assert shown["restarts"] == (profile == "likely")
    assert shown["provisioning"]["failure_rate"] == 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_under_nohup_it_outlives_its_terminal() -> None:
    with running("--port", "0", under=("sh", "-c", 'trap "" HUP; exec "$@"', "sh")) as process:
        url = exports(process)["FLUENCE_BASE_URL"]
        process.send_signal(signal.SIGHUP)
        with urllib.request.urlopen(f"{url}/_sim/state") as reply:
            assert reply.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert str(port) in done.stderr
    assert "port " in done.stderr
    assert done.stderr.endswith("in use; --port 0 picks a free one\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "0.0.0.0"],
        ["--port", "http"],
        ["--port", "65536"],
        ["--time-scale", "0"],
        ["--time-scale", "nan"],
        ["--failure-rate", "1.5"],
        ["--profile", "nice"],
        ["--balance", "much"],
        ["--balance", "inf"],
    ],
)
def test_nonsense_is_refused_at_once(arguments: list[str]) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert arguments[1] in done.stderr
