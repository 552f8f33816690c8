"""The scripts of docs/examples, run as they stand there, against a simulator that serves in the same loop.

What counts is the bill and what is left running, which for all of them is nothing.
"""

from __future__ import annotations

import asyncio
import runpy
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import uvicorn

from aiofluence import Session, Until
from aiofluence.simulator import Fault, Simulator, SimulatorServer, VirtualClockLoop

from .harness import container_spec

PLAN_GONE = "Plan is no longer available"
EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


class Stage:
    """Runs scripts whose `asyncio.run` gets a loop on virtual time in which the simulator serves as well."""

    def __init__(self, simulator: Simulator, patch: pytest.MonkeyPatch) -> None:
        self.simulator = simulator
        self._patch = patch
        patch.setattr("asyncio.events.new_event_loop", self.loop)
        patch.setenv("FLUENCE_API_KEY", simulator.api_key)

    def loop(self) -> VirtualClockLoop:
        loop = _ServingLoop(self.simulator)
        self._patch.setenv("FLUENCE_BASE_URL", loop.server.url)
        return loop

    def play(self, name: str) -> dict[str, Any]:
        return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")

    def names(self) -> list[str]:
        return [instance.name for instance in self.simulator.instances()]


class _ServingLoop(VirtualClockLoop):
    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self.server = SimulatorServer(simulator)
        self.run_until_complete(self.server.__aenter__())

    def close(self) -> None:
        if not self.is_closed():
            self.run_until_complete(self.server.__aexit__(None, None, None))
        super().close()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.chdir(tmp_path)
    return Stage(Simulator(balance=10_000), monkeypatch)


def test_every_example_is_played_here() -> None:
    written = Path(__file__).read_text(encoding="utf-8")
    scripts = [script.stem for script in EXAMPLES.glob("*.py")]
    assert len(scripts) == 6
    for script in scripts:
        assert f'play("{script}")' in written, f"no test plays {script}"


def test_sweep(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.play("sweep")
    assert "50 trials; best: sweep-" in capsys.readouterr().out
    assert len(stage.names()) == 50
    assert not stage.simulator.live()


def test_failover(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.simulator.fail("POST /gpu/instances/", Fault.status(400, {"error": PLAN_GONE}), times=3)
    stage.play("failover")
    out = capsys.readouterr().out
    assert "4 active at" in out
    # A second attempt may come before the first of another spec, and meet the third refusal.
    assert 2 <= len({line.split()[-1] for line in out.splitlines() if "got plan" in line}) <= 3
    assert sorted(stage.names()) == [f"job-{n}" for n in range(4)]
    assert not stage.simulator.live()


def test_failover_when_nothing_is_left(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.simulator.fail("POST /gpu/instances/", Fault.status(400, {"error": PLAN_GONE}), times=None)
    stage.play("failover")
    assert "not to be had at that price:" in capsys.readouterr().out
    assert not stage.names()


def test_spot_check(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.play("spot_check")
    out = capsys.readouterr().out
    assert "passed: NVIDIA driver" in out
    assert "ENDED spent: " in out
    assert len(stage.names()) == 1
    assert not stage.simulator.live()


def test_resume(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped at ten moments of its life, and run to its end at last: each shard was paid once."""
    new_loop = stage.loop

    for moment in (0.01, 0.1, 1, 30, 90, 120, 150, 170, 180, 190):

        def doomed(moment: float = moment) -> VirtualClockLoop:
            loop = new_loop()
            loop.call_later(moment, _kill, loop)
            return loop

        stage._patch.setattr("asyncio.events.new_event_loop", doomed)
        try:
            stage.play("resume")
        except (KeyboardInterrupt, asyncio.CancelledError):
            continue
        break
    else:
        stage._patch.setattr("asyncio.events.new_event_loop", new_loop)
        stage.play("resume")
    assert capsys.readouterr().out.splitlines()[-1] == "done"
    assert not stage.simulator.live()
    assert sorted(stage.names()) == sorted(set(stage.names()))


def _kill(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        if getattr(task.get_coro(), "__name__", "") == "main":
            task.cancel()


def test_fleet_logs(stage: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def fleet() -> None:
        async with Session() as fluence:
            spec = container_spec(stage.simulator, "fleet-{i}")
            await fluence.deploy_all_and_wait(spec.many(5), until=Until.READY)

    asyncio.run(fleet())
    stage.play("fleet_logs")
    assert "5 containers," in capsys.readouterr().out
    lines = (tmp_path / "fleet.log").read_text(encoding="utf-8").splitlines()
    for instance in stage.simulator.live():
        own = [line.partition("] ")[2] for line in lines if line.startswith(f"{instance.name} [")]
        assert len(own) > 100
        truth = [line.partition("] ")[2] for line in _log_of(stage, instance.id)]
        assert own == truth[: len(own)]


def _log_of(stage: Stage, id: str) -> list[str]:
    async def fetch() -> list[str]:
        async with Session() as fluence:
            return [line.raw for line in await fluence.containers.logs(id)]

    return asyncio.run(fetch())


async def _talk(stage: Stage) -> None:
    web_app = stage.play("web_app")
    app = web_app["app"]
    transport = httpx.ASGITransport(app)
    async with (
        web_app["lifespan"](app),
        httpx.AsyncClient(transport=transport, base_url="http://app", timeout=None) as client,
    ):
        begun = (await client.post("/workers", params={"image": "nginx:1.27"})).json()
        assert stage.simulator.get_instance(begun["id"]).name == begun["name"]
        lines = (await client.get(f"/workers/{begun['id']}/logs", params={"lines": 12})).text.splitlines()
        assert lines[0] == "Starting entrypoint"
        assert len(lines) == 12
        assert (await client.delete(f"/workers/{begun['id']}")).status_code == 200
        assert not stage.simulator.live()

        stage.simulator.fail_next_provisioning()
        refused = await client.post("/workers", params={"image": "nginx:1.27"})
        assert refused.status_code == 502

        gone = asyncio.create_task(client.post("/workers", params={"image": "nginx:1.27"}))
        await asyncio.sleep(60)
        assert len(stage.simulator.live()) == 1
        gone.cancel()
        await asyncio.wait([gone])
    assert not stage.simulator.live()


def test_web_app(stage: Stage) -> None:
    asyncio.run(_talk(stage))


async def _leave(stage: Stage) -> None:
    """A real server, and clients that go away: at several moments of a deploy, and in the middle of a log."""
    app = stage.play("web_app")["app"]
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(1)
    host, port = server.servers[0].sockets[0].getsockname()

    for seconds in (0.001, 0.5, 30, 60):
        before = len(stage.simulator.instances())
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /workers?image=nginx:1.27 HTTP/1.1\r\nHost: app\r\n\r\n")
        await asyncio.sleep(seconds)
        if seconds >= 30:
            assert len(stage.simulator.live()) == 1
            assert len(stage.simulator.instances()) == before + 1
        writer.close()
        await asyncio.sleep(600)
        assert not stage.simulator.live()

    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=None) as client:
        begun = (await client.post("/workers", params={"image": "nginx:1.27"})).json()
        async with client.stream("GET", f"/workers/{begun['id']}/logs", params={"lines": 10**6}) as reply:
            assert reply.status_code == 200
            await anext(reply.aiter_lines())
        await asyncio.sleep(60)
        asked = stage.simulator.count()
        await asyncio.sleep(600)
        assert stage.simulator.count() == asked  # the tail is over as well
        assert [instance.id for instance in stage.simulator.live()] == [begun["id"]]
        assert (await client.delete(f"/workers/{begun['id']}")).status_code == 200
        for unknown in (str(uuid.uuid4()), "no id", "7"):
            for method, path in (("GET", "/logs"), ("DELETE", "")):
                answer = await client.request(method, f"/workers/{quote(unknown)}{path}")
                assert answer.status_code == 404, answer.text
        refused = {"detail": [{"loc": ["body", "image"], "msg": "no such image", "type": "value_error"}]}
        stage.simulator.fail("POST /gpu/instances/", Fault.status(422, refused))
        for image in ("unknown", "", "no image!", "a b"):
            answer = await client.post("/workers", params={"image": image})
            assert answer.status_code == 422, answer.text
    server.should_exit = True
    await serving
    assert not stage.simulator.live()


def test_web_app_whose_clients_go_away(stage: Stage) -> None:
    asyncio.run(_leave(stage))
