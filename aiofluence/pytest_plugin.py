"""A pytest plugin for users' tests: fixtures for the simulator, a session on it and its URL, and two markers.

pytest loads the plugin if aiofluence is installed, even if no test uses it. So only the fixtures import
anything but pytest. docs/testing.md shows how to use it.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from . import Session
    from .simulator import Simulator

_MARKERS = (
    "fluence_simulator(time_scale=60.0, **options): the time scale of `fluence_simulator_url`, and options "
    "of `Simulator`: seed, balance, provisioning, ...",
    "virtual_clock: run an async test on a clock that jumps to the next timer when nothing else is ready",
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and the fixture for pytest-asyncio."""
    for line in _MARKERS:
        config.addinivalue_line("markers", line)
    if config.pluginmanager.has_plugin("asyncio"):
        config.pluginmanager.register(_on_asyncio())


# The simulator and the session


@pytest.fixture
def fluence_simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """The simulated service: script its faults, and check its ledger.

    pytest warns about each scripted fault that never struck, because such a test may prove nothing.
    """
    from .simulator import Simulator

    options = _options(request)
    options.pop("time_scale", None)
    yield (simulator := Simulator(**options))
    for text in simulator.warnings():
        request.node.warn(pytest.PytestWarning(text))


@pytest.fixture
def fluence(request: pytest.FixtureRequest) -> Session:
    """An open `Session` on `fluence_simulator`, in process; for async tests, see docs/testing.md."""
    on_anyio = "anyio_backend" in request.fixturenames
    on_asyncio = request.node.get_closest_marker("asyncio") is not None  # the auto mode sets it, too
    if on_anyio == on_asyncio:
        pytest.fail(
            "the fixture `fluence` is for async tests that have the marker anyio, or asyncio, and not both; "
            "elsewhere, open a Session on SimulatorWire(fluence_simulator) yourself",
            pytrace=False,
        )
    session: Session = request.getfixturevalue("_fluence_on_anyio" if on_anyio else "_fluence_on_asyncio")
    return session


@asynccontextmanager
async def _session(simulator: Simulator) -> AsyncIterator[Session]:
    from . import Session
    from .simulator import SimulatorWire

    async with Session(simulator.api_key, wire=SimulatorWire(simulator)) as session:
        yield session


@pytest.fixture
async def _fluence_on_anyio(fluence_simulator: Simulator, anyio_backend_name: str) -> AsyncIterator[Session]:
    if anyio_backend_name != "asyncio":
        pytest.skip("aiofluence needs asyncio")
    async with _session(fluence_simulator) as session:
        yield session


def _on_asyncio() -> object:
    """Return a plugin with the same fixture for pytest-asyncio, which must be installed."""

    async def on_asyncio(fluence_simulator: Simulator) -> AsyncIterator[Session]:
        async with _session(fluence_simulator) as session:
            yield session

    fixture = import_module("pytest_asyncio").fixture(on_asyncio, name="_fluence_on_asyncio")
    plugin = ModuleType("aiofluence_on_asyncio")
    plugin.fixture = fixture  # type: ignore[attr-defined]
    return plugin


# The simulator for other programs


@pytest.fixture
def fluence_simulator_url(request: pytest.FixtureRequest, fluence_simulator: Simulator) -> Iterator[str]:
    """The URL of `fluence_simulator`, served by a thread on a port of this machine.

    FLUENCE_BASE_URL and FLUENCE_API_KEY are set meanwhile, for the programs that the test starts.
    """
    from anyio.from_thread import start_blocking_portal

    from .simulator import SimulatorServer

    server = SimulatorServer(fluence_simulator, time_scale=_options(request).get("time_scale", 60.0))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(server),
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("FLUENCE_BASE_URL", server.url)
        environment.setenv("FLUENCE_API_KEY", fluence_simulator.api_key)
        yield server.url


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options of the markers. A function's marker overrides those of its class and module."""
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("fluence_simulator"):
        if marker.args:
            pytest.fail("the marker fluence_simulator takes arguments by name", pytrace=False)
        options = {**marker.kwargs, **options}
    return options


# The virtual clock


class _VirtualLoops:
    """The event loop of one test for pytest-asyncio. It is registered for that test only."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_asyncio_loop_factories(self) -> Mapping[str, Any]:
        from .simulator import VirtualClockLoop

        return {"virtual": VirtualClockLoop}


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    """Run a test with the marker `virtual_clock` on a virtual clock."""
    if metafunc.definition.get_closest_marker("virtual_clock") is None:
        yield
    elif "anyio_backend" in metafunc.fixturenames:
        from .simulator import VirtualClockLoop

        backend = ("asyncio", {"loop_factory": VirtualClockLoop})
        metafunc.parametrize("anyio_backend", [backend], ids=["virtual"], scope="module")
        yield
    else:
        plugins = metafunc.config.pluginmanager
        if inspect.iscoroutinefunction(metafunc.function) and not hasattr(
            metafunc.config.hook, "pytest_asyncio_loop_factories"
        ):
            pytest.fail("virtual_clock needs the marker anyio, or pytest-asyncio 1.4", pytrace=False)
        loops = _VirtualLoops()
        plugins.register(loops)
        try:
            yield
        finally:
            plugins.unregister(loops)
