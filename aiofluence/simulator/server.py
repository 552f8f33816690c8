"""A simulator over HTTP: a server that passes requests to a simulator and carries out its faults.

Only this module of the simulator needs aiohttp. The server is a test double: plain HTTP, one key, loopback
only by default.
"""

from __future__ import annotations

import asyncio
import ipaddress
from types import TracebackType

from aiohttp import web

from aiofluence.http.messages import Reply, Request

from .control_api import PREFIX, Control, foreign
from .faults import Effect
from .local_processes import LocalProcesses
from .simulator import DEFAULT_API_KEY, Simulator

# Far above the contract's limits, so that the simulated service itself reports the problem.
_MAX_REQUEST = 16 * 2**20


class _Clock:
    """Identity of the loop's clock at another pace. Other servers and wires in the loop keep their pace."""


class SimulatorServer:
    """HTTP server of a `Simulator`, an async context manager. `control_api` answers below `/_sim/`.

    ```python
    async with SimulatorServer(Simulator()) as server:
        print(server.url)  # http://127.0.0.1:40123
    ```

    Args:
        simulator: the service.
        host: address to listen on.
        port: port to listen on, or 0 for any free port.
        time_scale: simulated seconds per real second.
        allow_remote: permit a host that is not loopback.
        processes: runs the containers' startup commands on this machine. None only simulates them.

    Raises:
        ValueError: the host is not loopback, and `allow_remote` is not set or `processes` is. Also if
            `processes` is set and the simulator has the public default key.
    """

    def __init__(
        self,
        simulator: Simulator,
        host: str = "127.0.0.1",
        port: int = 0,
        time_scale: float = 1.0,
        *,
        allow_remote: bool = False,
        processes: LocalProcesses | None = None,
    ) -> None:
        if not allow_remote and not is_loopback(host):
            raise ValueError(f"{host} is not loopback: the simulator would be open to others")
        if processes is not None and not is_loopback(host):
            raise ValueError(f"{host} is not loopback: others could run their programs on this machine")
        if processes is not None and simulator.api_key == DEFAULT_API_KEY:
            raise ValueError("to run processes, give the simulator an api_key that other users cannot know")
        self.simulator = simulator
        self.host = host
        self.port: int = port
        self.time_scale: float = time_scale
        self._processes = processes
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()
        self._clock: _Clock | None = None
        self._control = Control(self)

    @property
    def url(self) -> str:
        """The base URL without `/gpu`: `http://127.0.0.1:8080`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> SimulatorServer:
        """Listen.

        Raises:
            OSError: the port is in use, or the host is no address of this machine.
            ValueError: the processes serve another server already, or the loop's clock is virtual.
        """
        # Without handler_cancellation, a hanging handler would outlive its client.
        app = web.Application(client_max_size=_MAX_REQUEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
            if self._processes is not None:
                self._processes.start(self.simulator, self.now)
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        try:
            if self._runner is not None:
                await self._runner.cleanup()
        finally:
            if self._processes is not None:
                await self._processes.close()

    def now(self) -> float:
        """Return the present simulated second, for example for `simulator.advance`."""
        loop = asyncio.get_running_loop()
        return self.simulator.seconds_at(self._clock or loop, loop.time(), self.time_scale)

    def rescale(self, time_scale: float) -> None:
        """Change the pace of time at this server from now on."""
        self.simulator.advance(self.now())
        self._clock = _Clock()
        self.time_scale = time_scale
        self.now()  # the first reading relates the new clock to the simulated time

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        ours = Request(
            method=request.method,
            path=request.rel_url.raw_path,
            query=dict(request.query),
            headers=dict(request.headers),
            body=await request.read(),
        )
        if ours.path.startswith(PREFIX):
            if not is_loopback(request.remote or ""):
                return web.Response(status=403, text="only from the simulator's own machine\n")
            getall = request.headers.getall
            if reason := foreign(getall("Host", []), getall("Origin", []), self.host):
                return web.json_response({"problems": [reason]}, status=403)
            answer = self._control.answer(ours)
            if self._processes is not None:
                self._processes.look()
            return _whole(answer)
        outcome = self.simulator.receive(ours, self.now())
        if self._processes is not None:
            self._processes.look()
        if outcome.delay:
            await self._pause(outcome.delay / self.time_scale)
        if outcome.effect is Effect.HANG:
            await self._pause(None)
        reply = outcome.reply
        if reply is None:
            return _reset(request)
        if outcome.effect is Effect.CUT:
            return await _cut(request, reply)
        return _whole(reply)

    async def _pause(self, seconds: float | None) -> None:
        """Sleep until the time is over, the client disconnects (cancellation) or the server closes."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _whole(reply: Reply) -> web.StreamResponse:
    return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)


def _reset(request: web.Request) -> web.StreamResponse:
    """Break the connection. aiohttp needs a response, which is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut(request: web.Request, reply: Reply) -> web.StreamResponse:
    """Announce more bytes than are sent, then break the connection."""
    response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
    response.content_length = len(reply.body) + 1024
    await response.prepare(request)
    await response.write(reply.body)
    if request.transport is not None:
        # `abort` discards the buffer, and the head must arrive.
        request.transport.close()
    return response
