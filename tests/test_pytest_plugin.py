"""The pytest plugin, in pytest runs of their own: each writes the tests that a user would write.

All but one run in this process, by pytest's own `pytester`, which forgets the modules that a run has loaded.
A program in another process is a block of the page.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import aiofluence
from aiofluence import Session
from aiofluence.simulator import SimulatorServer

LOADED = (Session, SimulatorServer)  # once, and not in each run

pytest_plugins = ["pytester"]

SPEC = """
import asyncio, os, subprocess, urllib.request
import pytest
from aiofluence import ContainerSpec, Until
from aiofluence.simulator import Fault, Simulator

def spec(simulator):
    plan_id = simulator.catalog.find("container").id
    return ContainerSpec(name="exp-1", plan_id=plan_id, image="ollama/ollama:0.6.5", expose=[11434])
"""
ASYNCIO = pytest.param(
    "asyncio",
    ("-o", "asyncio_default_fixture_loop_scope=function"),
    marks=pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed"),
)
ANYIO = pytest.param("anyio", ("-p", "no:asyncio"))
BOTH = pytest.mark.parametrize(("mark", "options"), [ANYIO, ASYNCIO])


Run = Callable[..., str]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest on a file of tests, as `run_files` does; its children find the library wherever it is."""
    monkeypatch.setenv("PYTHONPATH", str(Path(aiofluence.__file__).parent.parent))

    def run_tests(tests: str, *options: str) -> str:
        pytester.makepyfile(test_user=SPEC + tests)
        return run_files(pytester, *options)

    return run_tests


def run_files(pytester: pytest.Pytester, *options: str, process: bool = False) -> str:
    """Run pytest in its folder, warnings being errors; what it printed, its last line without the time."""
    pytester.makeini("[pytest]\naddopts = --strict-markers\n")
    arguments = ["-q", "-W", "error", "-p", "no:cacheprovider", *options]
    # A source tree that is on the path only has no entry points.
    if not plugin_is_installed():
        arguments += ["-p", "aiofluence.pytest_plugin"]
    start = pytester.runpytest_subprocess if process else pytester.runpytest_inprocess
    done = start(*arguments)
    return re.sub(r" in [\d.]+s( \([\d:]+\))?\n*$", "", done.stdout.str()) + done.stderr.str()


def plugin_is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "aiofluence.pytest_plugin" for point in entry_points(group="pytest11"))


@BOTH
def test_the_session_and_the_clock(mark: str, options: tuple[str, ...], run: Run) -> None:
    tests = f"""
from aiofluence.simulator import VirtualClockLoop

pytestmark = pytest.mark.{mark}

@pytest.mark.virtual_clock
async def test_minutes_take_moments(fluence, fluence_simulator):
    fluence_simulator.fail("POST /gpu/instances/", Fault.reset(), when="after")
    container = await fluence.deploy_and_wait(spec(fluence_simulator), until=Until.READY)
    assert [i.id for i in fluence_simulator.live()] == [container.id]
    assert fluence_simulator.count("POST /gpu/instances/") == 1
    assert 60 < asyncio.get_running_loop().time() < 1000

@pytest.mark.virtual_clock
async def test_each_test_has_its_own(fluence, fluence_simulator):
    assert await fluence.containers.list() == []
    assert fluence_simulator.now < 60

class TestInAClass:
    @pytest.mark.virtual_clock
    async def test_as_well(self, fluence):
        await asyncio.sleep(100_000)
        assert await fluence.plans.find()

class TestWithoutTheMarker:
    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"

    async def test_the_clock_is_real(self, fluence):
        assert await fluence.plans.find()
        assert not isinstance(asyncio.get_running_loop(), VirtualClockLoop)

    @pytest.mark.virtual_clock
    async def test_but_not_with_it(self):
        assert isinstance(asyncio.get_running_loop(), VirtualClockLoop)

    async def test_and_real_again(self):
        assert not isinstance(asyncio.get_running_loop(), VirtualClockLoop)
"""
    assert run(tests, *options).endswith("6 passed")


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
def test_the_auto_mode_needs_no_marker(run: Run) -> None:
    tests = """
pytestmark = pytest.mark.virtual_clock

async def test_it(fluence, fluence_simulator):
    await fluence.deploy_and_wait(spec(fluence_simulator))
    assert asyncio.get_running_loop().time() > 60

def test_that_is_not_async(fluence_simulator):
    assert fluence_simulator.now == 0
"""
    options = ("-o", "asyncio_default_fixture_loop_scope=function", "-o", "asyncio_mode=auto")
    assert run(tests, *options).endswith("2 passed")


def test_markers_and_urls(run: Run) -> None:
    tests = """
import json

pytestmark = pytest.mark.fluence_simulator(seed=1, balance=10)

def test_the_module_s(fluence_simulator):
    assert (fluence_simulator.seed, fluence_simulator.balance) == (1, 10)

@pytest.mark.fluence_simulator(seed=2, time_scale=5)
def test_the_function_s_wins(fluence_simulator):
    assert (fluence_simulator.seed, fluence_simulator.balance) == (2, 10)

@pytest.mark.fluence_simulator(3)
def test_by_name_only(fluence_simulator): ...

@pytest.mark.fluence_simulator(sead=3)
def test_a_typo(fluence_simulator): ...

def state():
    with urllib.request.urlopen(os.environ["FLUENCE_BASE_URL"] + "/_sim/state") as reply:
        return json.load(reply)

def test_the_url(fluence_simulator_url, fluence_simulator):
    assert os.environ["FLUENCE_BASE_URL"] == fluence_simulator_url
    assert os.environ["FLUENCE_API_KEY"] == fluence_simulator.api_key
    assert (state()["scale"], state()["seed"]) == (60.0, 1)

@pytest.mark.fluence_simulator(time_scale=7.5)
def test_its_pace(fluence_simulator_url):
    assert state()["scale"] == 7.5

def test_the_variables_are_gone():
    assert "FLUENCE_BASE_URL" not in os.environ
"""
    printed = run(tests, "-p", "no:asyncio")
    assert printed.endswith("5 passed, 2 errors")
    assert "takes arguments by name" in printed
    assert "unexpected keyword argument 'sead'" in printed


def test_a_fault_that_never_struck_is_a_warning(run: Run) -> None:
    tests = """
def test_nothing_is_asked(fluence_simulator):
    fluence_simulator.fail("GET /gpu/plans/", Fault.reset())
    fluence_simulator.fail("*", Fault.reset()).cancel()
"""
    printed = run(tests, "-p", "no:asyncio", "-W", "default::pytest.PytestWarning")
    assert printed.endswith("1 passed, 1 warning")
    assert "test_user.py" in printed
    assert "the fault scripted for 'GET /gpu/plans/' never struck: no such request came" in printed


def test_an_async_test_without_a_plugin(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_clock="import pytest\n@pytest.mark.virtual_clock\nasync def test_it(): ...")
    printed = run("def test_sync(fluence): ...", "-p", "no:asyncio", "--continue-on-collection-errors")
    assert "virtual_clock needs the marker anyio, or pytest-asyncio" in printed
    assert "the marker anyio, or asyncio, and not both" in printed


def test_unused_it_loads_nothing(run: Run, pytester: pytest.Pytester) -> None:
    """A process of its own, as a user starts it. Everything heavy is loaded here already."""
    tests = """
import sys

import pytest

def test_nothing_is_loaded(pytestconfig):
    heavy = {"aiohttp", "anyio", "attr", "cattrs", "backoff", "aiofluence.session", "aiofluence.simulator"}
    assert not heavy & set(sys.modules), heavy & set(sys.modules)
    assert "aiofluence.pytest_plugin" in sys.modules

@pytest.mark.parametrize("number", [1, 2])
def test_others(number, tmp_path): ...
"""
    pytester.makepyfile(test_user=tests)
    printed = run_files(pytester, "-p", "no:asyncio", "-p", "no:anyio", process=True)
    assert printed.endswith("3 passed"), printed


def test_the_blocks_of_the_page(pytester: pytest.Pytester) -> None:
    found = blocks("python")
    assert len(found) >= 6
    for number, code in enumerate(found):
        (pytester.path / f"test_block_{number}.py").write_text(code, encoding="utf-8")
    printed = run_files(pytester, "-p", "no:asyncio")
    assert re.search(r"\n\d+ passed$", printed), printed
    assert all(re.search(r"^(async )?def test_", code, re.MULTILINE) for code in found)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_page_s_control_by_hand(run: Run) -> None:
    (commands,) = [code for code in blocks("sh") if "curl" in code]
    tests = f"""
def test_the_commands(fluence_simulator_url):
    done = subprocess.run(["sh", "-ec", {commands!r}], capture_output=True, text=True, check=True)
    assert '"seed": 7' in done.stdout
    assert "\\n503\\n" in done.stdout
    assert '"operation": "GET /gpu/plans/"' in done.stdout
    assert done.stdout.endswith('"warnings": []\\n}}\\n')
"""
    assert run(tests, "-p", "no:asyncio").endswith("1 passed")


def blocks(language: str) -> list[str]:
    """The fenced blocks of docs/testing.md in one language."""
    text = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
