"""`python -m aiofluence.simulator` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiofluence.simulator import ClusterOptions, ContainerInstance, SimulatorServer
from aiofluence.simulator.__main__ import main

from .driver import Driver

pytestmark = pytest.mark.anyio

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
@pytest.mark.parametrize(("number", "profile"), [(signal.SIGINT, "likely"), (signal.SIGTERM, "kind")])
def test_a_signal_ends_it_cleanly(number: signal.Signals, profile: str) -> None:
    options = ("--port", "0", "--balance", "12.5", "--seed", "3", "--time-scale", "10")
    with running(*options, "--profile", profile, "--failure-rate", "0.5") as process:
        told = exports(process)
        assert set(told) == {"FLUENCE_API_KEY", "FLUENCE_BASE_URL"}
        url = told["FLUENCE_BASE_URL"]
        asked = urllib.request.Request(f"{url}/gpu/plans/", headers={"X-API-KEY": told["FLUENCE_API_KEY"]})
        with urllib.request.urlopen(asked) as reply:
            assert len(json.load(reply)) >= 12
        with urllib.request.urlopen(f"{url}/_sim/state") as reply:
            state = json.load(reply)
        with urllib.request.urlopen(f"{url}/_sim/profile") as reply:
            shown = json.load(reply)
        fault = b'{"operation": "*", "fault": "hang"}'
        with urllib.request.urlopen(f"{url}/_sim/faults", data=fault) as reply:
            assert reply.status == 200
        process.send_signal(number)
        out, err = process.communicate()
    assert (state["balance"], state["seed"], state["scale"]) == ("12.5", 3, 10)
    assert (shown["restarts"], shown["provisioning"]["failure_rate"]) == (profile == "likely", 0.5)
    assert (process.returncode, out) == (0, "")
    assert err == "warning: the fault scripted for '*' never struck: no such request came\n"


def test_it_behaves_as_observed(tmp_path: Path) -> None:
    findings = [
        {"claim": "wrong-key", "verdict": "contradicted", "observed": {"status": 401, "fields": ["detail"]}},
        {"claim": "backoff", "verdict": "contradicted", "observed": {}},
    ]
    file = tmp_path / "observations.json"
    file.write_text(json.dumps({"format": "aiofluence observations 1", "findings": findings}))
    with running("--port", "0", "--observations", str(file)) as process:
        url = exports(process)["FLUENCE_BASE_URL"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/gpu/plans/")
        assert (refused.value.code, json.load(refused.value)) == (
            401,
            {"detail": "Invalid or missing API key"},
        )
        process.kill()
        _, err = process.communicate()
    assert err == "no option imitates what was observed of the claim backoff\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_under_nohup_it_outlives_its_terminal() -> None:
    with running("--port", "0", under=("sh", "-c", 'trap "" HUP; exec "$@"', "sh")) as process:
        url = exports(process)["FLUENCE_BASE_URL"]
        process.send_signal(signal.SIGHUP)
        with urllib.request.urlopen(f"{url}/_sim/state") as reply:
            assert reply.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_port_in_use_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert f"port {port}" in printed.err
    assert printed.err.endswith("in use; --port 0 picks a free one\n")


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
def test_nonsense_is_refused_at_once(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (2, "")
    assert arguments[1] in printed.err


async def test_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    driver = Driver(cluster=ClusterOptions(log_interval=None))
    simulator = driver.sim
    driver.deploy(driver.container_body("exp-1"))
    simulator.advance(200)
    (container,) = simulator.live()
    assert isinstance(container, ContainerInstance)

    async def say(*arguments: str, code: int = 0) -> list[str]:
        assert await asyncio.to_thread(main, arguments) == code
        printed = capsys.readouterr()
        assert bool(printed.err) == (code != 0)
        return (printed.out or printed.err).splitlines()

    async with SimulatorServer(simulator) as server:
        monkeypatch.setenv("FLUENCE_BASE_URL", f"{server.url}/gpu")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        offers = {o.id for o in simulator.catalog.offers.values() if o.model == "rtx4090"}
        assert len(await say("sell-out", "rtx4090")) == len(offers)
        assert simulator.sold_out == offers
        listed = await say("stock")
        assert {line.split()[0] for line in listed if line.endswith("sold out")} == offers
        await say("restock", "rtx4090")
        assert not simulator.sold_out
        assert await say("balance", "0.10") == ["0.10 USDC"]
        assert str(simulator.balance) == "0.10"
        await say("print", "exp-1", "epoch 1", "--", "--epoch 2")
        assert container.log.pod.lines == ["epoch 1", "--epoch 2"]
        fault = ("fail", "GET /gpu/plans/", "status", "--code", "503", "--body", "busy", "--times", "2")
        assert await say(*fault) == ["GET /gpu/plans/: status 503, 2 x, struck 0"]
        before = simulator.now
        await say("advance", "600")
        assert 600 <= simulator.now - before < 630
        assert (await say("clear"))[0].startswith("the fault scripted for 'GET /gpu/plans/' never struck")
        assert json.loads("".join(await say("state")))["faults"] == []
        for command, problem in {
            ("balance", "much"): "balance: must be an amount as text",
            ("sell-out", "t1000"): "no plan and no GPU is called t1000",
            ("print", "exp-2", "x"): "no running instances are called exp-2; there are: exp-1",
            ("fail", "GET /none", "reset"): "operation: must be such as",
            ("state", "--url", f"{server.url}/v1"): "is no simulator: it answered 4",
            ("state", "--url", "http://127.0.0.1:1"): "no simulator at http://127.0.0.1:1",
        }.items():
            (line,) = await say(*command, code=1)
            assert problem in line
