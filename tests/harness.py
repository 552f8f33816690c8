"""Shared helpers of the tests: sessions on a simulator, valid specs, and an HTTP server of raw bytes.

No helper replaces the client: a session here is a user's session, and only the service is simulated.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aiofluence import BareMetalSpec, ContainerSpec, RateLimit, Session, VMSpec
from aiofluence.config import request_headers
from aiofluence.http.transport import Transport
from aiofluence.simulator import (
    DEFAULT_API_KEY,
    LIKELY,
    Simulator,
    SimulatorServer,
    SimulatorWire,
    VirtualClockLoop,
)

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
"""Run more random lives and examples, for thorough checks. `nox -s thorough` sets the variable."""

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd9 someone@example.org"

IMAGE = "docker.io/fluencelabs/ubuntu-ssh-root:24.04"
"""An image that keeps running. Its sshd reads the SSH key."""
OTHER_IMAGE = "docker.io/fluencelabs/debian-ssh-root:11"
"""Another image like `IMAGE`, for updates."""

VIRTUAL = ("asyncio", {"loop_factory": VirtualClockLoop})
"""Value of a module's `anyio_backend` fixture that runs its async tests on virtual time."""

FAST = RateLimit(per_second=1000, burst=1000)
"""Rate limit for tests of other things than the rate."""


HALF_A_CENT = Decimal("0.005")
"""Largest difference between an amount in an answer and the ledger's amount."""
ROOMY = LIKELY.replace(capacity=None)
"""Profile without a capacity limit, for tests that launch hundreds of instances."""


BOTH = pytest.mark.parametrize("profile", ["likely", "kind"])
"""Runs a test on both profiles."""


def now() -> float:
    """Return the loop's time, virtual or real."""
    return asyncio.get_running_loop().time()


def session_on(simulator: Simulator, **options: Any) -> Session:
    """Return a session whose wire is the simulator, in process."""
    options.setdefault("rate", FAST)
    return Session(DEFAULT_API_KEY, wire=SimulatorWire(simulator), **options)


@asynccontextmanager
async def session_over_http(simulator: Simulator, **options: Any) -> AsyncIterator[Session]:
    """Open a session that reaches the simulator through real sockets, in the same loop."""
    options.setdefault("rate", FAST)
    async with (
        SimulatorServer(simulator) as server,
        Session(DEFAULT_API_KEY, base_url=server.url, **options) as session,
    ):
        yield session


def container_spec(simulator: Simulator, name: str = "exp-1", **fields: Any) -> ContainerSpec:
    """Return the spec of a container that the simulator accepts."""
    plan_id = simulator.catalog.find("container").id
    given: dict[str, Any] = {"image": IMAGE, "expose": [22], "ssh_key": SSH_KEY, "plan_id": plan_id}
    return ContainerSpec(name=name, **(given | fields))


def vm_spec(simulator: Simulator, name: str = "vm-1", **fields: Any) -> VMSpec:
    """Return the spec of a VM that the simulator accepts."""
    return VMSpec(**(_machine(simulator, "vm", name) | fields))


def baremetal_spec(simulator: Simulator, name: str = "metal-1", **fields: Any) -> BareMetalSpec:
    """Return the spec of a bare-metal machine that the simulator accepts."""
    return BareMetalSpec(**(_machine(simulator, "baremetal", name) | fields))


def _machine(simulator: Simulator, kind: Any, name: str) -> dict[str, Any]:
    offer = simulator.catalog.find(kind)
    return {
        "name": name,
        "plan_id": offer.id,
        "ssh_key": SSH_KEY,
        "os_image": offer.os_options[0],
    }


def is_gone(group: int) -> bool:
    """Return True if no process of the group runs. Zombies do not count. POSIX only."""
    if not Path("/proc/self/stat").exists():
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):  # macOS: PermissionError for a group of zombies
            return True
        return False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found, *_ = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # the process has just ended
        if int(found) == group and state not in "ZX":
            return False
    return True


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """TCP server with scripted answers to HTTP requests, byte for byte. It counts the requests.

    For answers that the simulator's server cannot give, because a correct HTTP server would not.
    """

    def __init__(
        self, *answers: bytes | None, then: bytes | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self._answers = list(answers)
        self._then = then
        self._context = context
        self._connections: set[asyncio.Task[None]] = set()
        self.heads: list[bytes] = []
        self.url = ""

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        scheme = "https" if self._context else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        await reader.readexactly(int(line.split(b":")[1]))
                self.heads.append(head)
                answer = self._answers.pop(0) if self._answers else self._then
                if answer is None:  # close the connection without an answer
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return an HTTP/1.1 answer with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def transport_on(simulator: Simulator, *, max_in_flight: int = 32) -> Transport:
    """Return the transport of a session on the simulator, for tests of what lies below a session."""
    limiter = FAST.limiter(max_in_flight)
    return Transport(
        wire=SimulatorWire(simulator), limiter=limiter, headers=request_headers(simulator.api_key)
    )


def sample(every: int, *values: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return combinations of a test's values: each `every`-th, or with `nox -s thorough` all.

    `every` has no common divisor with the number of values of any argument, so each value is among them.
    """
    listed = [list(some) for some in values]
    assert all(math.gcd(every, len(some)) == 1 for some in listed)
    return list(itertools.product(*listed))[:: 1 if THOROUGH else every]


def next_tick(ticks: int, ways: int) -> int:
    """Return the step of the loop at which the next of many lives is left.

    A test with `ways` variants begins at 0, 1, 2, …, so that its variants together cover each of the first 60
    steps. Polls that repeat fill the rest: a third of those. With `nox -s thorough`, each variant covers all.
    """
    return ticks + (1 if THOROUGH else ways if ticks < 60 else 3 * ways)
