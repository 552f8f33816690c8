"""A simulator in process: a `Wire` that passes requests to a simulator and carries out its faults.

It opens no sockets, so it may run on a virtual clock. Its only clock is the event loop's.
"""

from __future__ import annotations

import asyncio

from aiofluence.errors import DecodeError, NoReplyError, NotSentError
from aiofluence.http.messages import Reply, Request

from .faults import Effect, FaultOutcome
from .local_processes import LocalProcesses
from .simulator import Simulator


class SimulatorWire:
    """Wire to a `Simulator` that sends each request once. Satisfies `aiofluence.http.messages.Wire`.

    A request takes effect when it arrives, half the latency after it was sent. Cancelling `send` later does
    not undo the effect.

    Args:
        simulator: the service. Several wires may share it.
        time_scale: simulated seconds per second of the loop.
        latency: seconds of the loop from sending to the answer.
        processes: runs the containers' startup commands on this machine. None only simulates them.
    """

    def __init__(
        self,
        simulator: Simulator,
        time_scale: float = 1.0,
        *,
        latency: float = 0.02,
        processes: LocalProcesses | None = None,
    ) -> None:
        self.simulator = simulator
        self.time_scale = time_scale
        self.latency = latency
        self._processes = processes
        self._started = False
        self._closed = False
        self._sleepers: set[asyncio.Future[None]] = set()

    def now(self) -> float:
        """Return the present simulated second, for example for `simulator.advance`."""
        loop = asyncio.get_running_loop()
        return self.simulator.seconds_at(loop, loop.time(), self.time_scale)

    async def send(self, request: Request) -> Reply:
        """Send `request` exactly once and return the answer, regardless of its status.

        Raises:
            NotSentError: the request never arrived: refused, or the wire closed before.
            NoReplyError: the request may have taken effect, but no usable answer came within
                `request.timeout.total` seconds of the loop.
            DecodeError: a 2xx answer is larger than `request.max_body` bytes.
        """
        half = self.latency / 2
        if self._closed or not await self._sleep(half):
            raise NotSentError("the wire is closed")
        if self._processes is not None and not self._started:
            self._started = True  # the first request is the earliest moment: a wire has no `__aenter__`
            self._processes.start(self.simulator, self.now)
        outcome = self.simulator.receive(request, self.now())
        if self._processes is not None:
            self._processes.look()
        if outcome.effect is Effect.REFUSE:
            raise NotSentError("connection refused")
        wait = half + outcome.delay / self.time_scale
        left = max(request.timeout.total - half, 0.0)
        silent = outcome.effect is Effect.HANG or wait > left
        if not await self._sleep(left if silent else wait):
            raise NoReplyError("the wire was closed before an answer came")
        if silent:
            raise NoReplyError(f"no answer within {request.timeout.total:g} s")
        return _delivered(outcome, request.max_body)

    async def aclose(self) -> None:
        """Close permanently. Pending requests fail with NotSentError or NoReplyError."""
        self._closed = True
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        if self._processes is not None:
            await self._processes.close()

    async def _sleep(self, seconds: float) -> bool:
        """Sleep. Return False if the wire was closed meanwhile."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeper)
        self._sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)
        return not self._closed


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _delivered(outcome: FaultOutcome, max_body: int) -> Reply:
    reply = outcome.reply
    if reply is None:
        raise NoReplyError("connection reset by peer")
    if outcome.effect is Effect.CUT:
        raise NoReplyError("the connection broke within the body", phase="head")
    if len(reply.body) > max_body:
        if 200 <= reply.status < 300:
            raise DecodeError(f"the answer is larger than {max_body} bytes")
        return Reply(reply.status, reply.headers, reply.body[:max_body])
    return reply
