"""README and how-tos are run: their Python blocks against the simulator, the two commands against CI's.

The blocks are executed as they stand there. What they need comes as a user would give it: two variables.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import aiofluence
from aiofluence import FluenceError
from aiofluence.simulator import Simulator, SimulatorServer, VirtualClockLoop
from aiofluence.simulator.observed import FORMAT

from .harness import SSH_KEY

ROOT = Path(__file__).parent.parent
KEY = "key-for-the-readme"
ERRORS = tuple(f"docs/errors/{page.name}" for page in sorted((ROOT / "docs" / "errors").glob("*Error.md")))
# Their blocks need something else than a loop on virtual time.
NOT_HERE = {
    "docs/dask.md",  # schedulers and processes: engines/test_dask.py
    "docs/notebooks.md",  # cells, which await outside of functions
    "docs/scale.md",  # a Redis: shared_rate/test_redis_rate.py
    "docs/simulator.md",  # processes: simulator/test_exec.py
    "docs/sync.md",  # a thread's loop
    "docs/testing.md",  # tests: test_pytest_plugin.py
}
HOWTOS = tuple(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))
PAGES = tuple(page for page in ("README.md", *HOWTOS, *ERRORS) if page not in NOT_HERE)


def blocks(page: str, *languages: str) -> list[tuple[int, str]]:
    """The fenced blocks in one of these languages, each with the line that it starts on."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fence = re.compile(rf"^```(?:{'|'.join(languages)})[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, found.start(1)) + 1, found[1]) for found in fence.finditer(text)]


PYTHON = [(page, line, code) for page in PAGES for line, code in blocks(page, "python")]


class LoopWithSimulator(VirtualClockLoop):
    """A loop on virtual time that serves a simulator as well: on one clock, minutes pass in moments."""

    def __init__(self) -> None:
        super().__init__()
        self.server = SimulatorServer(Simulator(api_key=KEY))
        self.run_until_complete(self.server.__aenter__())

    def close(self) -> None:
        if not self.is_closed():
            self.run_until_complete(self.server.__aexit__(None, None, None))
        super().close()


def test_the_pages_show_python() -> None:
    assert len({page for page, _, _ in PYTHON}) >= 6


@pytest.mark.parametrize("code", [pytest.param(code, id=f"{page}:{line}") for page, line, code in PYTHON])
def test_a_python_block_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_block(code, tmp_path, monkeypatch)


def test_the_tutorial_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ((_, code),) = blocks("docs/tutorial.md", "python")
    ((_, shown),) = blocks("docs/tutorial.md", "text")
    run_block(code, tmp_path, monkeypatch)
    assert capsys.readouterr().out == shown


def run_block(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[LoopWithSimulator] = []

    def new_event_loop() -> LoopWithSimulator:
        loops.append(LoopWithSimulator())
        monkeypatch.setenv("FLUENCE_BASE_URL", loops[-1].server.url)
        return loops[-1]

    # Where `asyncio.run` gets its loop from: a block stays as a reader would type it.
    monkeypatch.setattr("asyncio.events.new_event_loop", new_event_loop)
    monkeypatch.setenv("FLUENCE_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)  # a block may write a journal
    for variable in ("HOME", "USERPROFILE"):  # it may read the reader's SSH key
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(SSH_KEY)
    (tmp_path / "observations.json").write_text(json.dumps({"format": FORMAT, "findings": []}))
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    if "Simulator" not in code:  # then it brought one of its own
        assert any(loop.server.simulator.requests for loop in loops), "the block asked the service nothing"


def test_each_public_error_has_its_page() -> None:
    public = [getattr(aiofluence, name) for name in aiofluence.__all__]
    errors = {one.__name__ for one in public if isinstance(one, type) and issubclass(one, FluenceError)}
    assert {Path(page).stem for page in ERRORS} == errors
    index = (ROOT / "docs" / "errors" / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == errors


@pytest.mark.parametrize("page", ERRORS)
def test_an_error_page_prints_what_it_shows(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    ((_, code),) = blocks(page, "python")
    ((_, shown),) = blocks(page, "text")
    exec(compile(code, page, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == shown


def test_the_two_commands_are_those_that_ci_runs() -> None:
    _, first = blocks("README.md", "bash", "sh", "console", "shell")[0]
    commands = [
        line.removeprefix("$ ").partition("  #")[0].strip()
        for line in first.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    ci = re.sub(r"\.ci/venv/\w+", ".venv", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    ran = {line.strip().removesuffix(" || failed=$?") for line in ci.splitlines()}
    assert len(commands) >= 2
    assert set(commands[:2]) <= ran
