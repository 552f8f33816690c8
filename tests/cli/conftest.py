"""The command line on a simulated cloud: `cloud.run("ls")` runs a command in process, over real HTTP.

Each command has a loop of its own, on virtual time, in which the simulator's server runs as well; the
simulator stays, so that one command finds what another has deployed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiofluence.cli import main
from aiofluence.simulator import DEFAULT_API_KEY, Simulator, SimulatorServer, VirtualClockLoop

from ..harness import IMAGE, SSH_KEY


@attrs.frozen
class Done:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, read as one JSON document."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """Its output, read as a JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


SSH = ("--image", IMAGE, "--expose", "22", "--ssh-key", SSH_KEY)
"""Flags of a container that stays, and that SSH can reach."""


class Cloud:
    """A simulated cloud, and the command line that reaches it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.simulator = Simulator()
        self.time_scale = 1.0
        self.during: Callable[[VirtualClockLoop], object] | None = None
        """Called with the loop of the next command, before it runs."""
        self._capsys = capsys
        cloud = self

        class LoopWithServer(VirtualClockLoop):
            def __init__(self) -> None:
                super().__init__()
                self.server = SimulatorServer(cloud.simulator, time_scale=cloud.time_scale)
                self.run_until_complete(self.server.__aenter__())
                monkeypatch.setenv("FLUENCE_BASE_URL", self.server.url)
                if cloud.during is not None:
                    cloud.during(self)

            def close(self) -> None:
                if not self.is_closed():
                    self.run_until_complete(self.server.__aexit__(None, None, None))
                super().close()

        monkeypatch.setattr("asyncio.events.new_event_loop", LoopWithServer)
        monkeypatch.setenv("FLUENCE_API_KEY", DEFAULT_API_KEY)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("FLUENCE_CONFIG", "/nowhere/config.toml")

    def run(self, *arguments: str | Path) -> Done:
        """Run a command to its end."""
        self._capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        self.during = None
        return Done(code, *self._capsys.readouterr())

    def ok(self, *arguments: str | Path) -> Done:
        """Run a command that must reach what it is for."""
        done = self.run(*arguments)
        assert done.code == 0, done.err
        return done

    def plan(self, kind: Any = "container") -> str:
        """The id of the cheapest plan of a kind."""
        return self.simulator.catalog.find(kind).id

    def deploy(self, name: str, *flags: str) -> Any:
        """Deploy a container that SSH can reach, unless `flags` say otherwise; its JSON."""
        usual = () if "--kind" in flags else SSH
        plan = () if "--plan" in flags else ("--plan", self.plan())
        until = () if "--until" in flags or "--no-wait" in flags else ("--until", "ready")
        return self.ok("deploy", name, *plan, *usual, *until, *flags, "--json").json

    def live(self) -> list[str]:
        """The names of what costs money."""
        return [instance.name for instance in self.simulator.live()]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cloud:
    """A simulated cloud of one test."""
    return Cloud(monkeypatch, capsys)
