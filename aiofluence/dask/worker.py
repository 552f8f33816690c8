"""A worker of a cluster: a container from its deploy to its end, in one task.

When the task ends, the container is in the session's custody in every case. It is gone when `close` returns,
unless it was still being provisioned. `cluster` decides which workers there should be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from distributed import Scheduler
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from ..errors import FluenceError, InstanceEndedError, LifecycleError, WaitTimeoutError
from ..lifecycle.options import Until
from ..lifecycle.wait import deadline_in
from ..models.instances import Container, InstanceRef
from ..models.specs import ContainerSpec
from ..session import Session
from .addresses import worker_contact

_LOOK_EVERY: Final = 5.0
"""Seconds between two polls of a container whose worker has not joined yet: it may have ended."""
_CONNECT_TIMEOUT: Final = 10.0
_RETIRE_TIMEOUT: Final = 60.0
_EVIDENCE: Final = 10
"""Number of last log lines that are added to the error if a worker does not join."""


class ContainerWorker(ProcessInterface):
    """A worker that is deployed when it starts. `start` does not wait for the deploy.

    Attributes:
        name: name of the worker in Dask, and of its container.
        ref: its container; None before the deploy.
        contact: its address for all others, which the worker asks for.
        joined_at: loop time at which it joined; None before.
        error: error that ended it; None if its end was intended.

    Args:
        fluence: session that deploys the container.
        scheduler: scheduler of the cluster.
        spec: spec of the container.
        timeout: seconds until it must have joined; None for no limit.
        pause: seconds to wait before the deploy.
        on_change: called when it has joined, and when it has ended.
    """

    def __init__(
        self,
        fluence: Session,
        scheduler: Scheduler,
        spec: ContainerSpec,
        *,
        timeout: float | None,
        pause: float,
        on_change: Callable[[ContainerWorker], None],
    ) -> None:
        super().__init__(name=spec.name)
        self.name: Final = spec.name
        self.ref: InstanceRef | None = None
        self.contact: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.joined_at: float | None = None
        self.error: Exception | None = None
        self._fluence = fluence
        self._scheduler = scheduler
        self._spec = spec
        self._timeout = timeout
        self._pause = pause
        self._on_change = on_change
        self._registered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """True if the worker has ended."""
        return self._task is not None and self._task.done()

    def note_registered(self) -> None:
        """Note that the scheduler knows the worker now."""
        self._registered.set()

    async def start(self) -> None:
        """Begin the deploy."""
        self.status = Status.running
        self._task = asyncio.create_task(self._live())
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Leave the container to the session's custody at once."""
        if self._task is not None and self.status is Status.running:
            self.status = Status.closing
            self._task.cancel()

    async def close(self) -> None:
        """End the container and wait until it is gone. While it is being provisioned, it ends later.

        Results that only this worker holds are first moved to others, for at most a minute.
        """
        if self.status is Status.running and self.joined_at is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETIRE_TIMEOUT):
                    await self._scheduler.retire_workers(names=[self.name])
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])
        await super().close()

    async def _live(self) -> None:
        await asyncio.sleep(self._pause)
        deadline = deadline_in(self._timeout)
        try:
            async with self._fluence.running(
                self._spec, until=Until.READY, timeout=self._timeout
            ) as container:
                self.ref = container.ref
                await self._join(container, deadline)
                await asyncio.Event().wait()  # until the task is cancelled
        except InstanceEndedError as error:
            if self.ref is None and error.ref is not None:  # the container ended before it was READY
                await self._explain(error, error.ref)
            raise

    def _end(self, task: asyncio.Task[None]) -> None:
        self.status = Status.closed
        self.contact.cancel()
        if not task.cancelled():
            error = task.exception()
            if not isinstance(error, Exception):
                raise error or AssertionError("a worker lives until it is cancelled")
            self.error = error
        self._on_change(self)

    async def _join(self, container: Container, deadline: float | None) -> None:
        """Pass the worker its address, and wait until it has joined and is reachable.

        Raises:
            LifecycleError: it cannot join any more.
        """
        loop = asyncio.get_running_loop()
        try:
            contact = worker_contact(container, self._scheduler.address.partition("://")[0])
            if contact is None:
                raise LifecycleError(f"no port is forwarded to worker {self.name}", ref=self.ref)
            self.contact.set_result(contact)
            while not await _comes(self._registered, _LOOK_EVERY):
                if deadline is not None and loop.time() >= deadline:
                    raise WaitTimeoutError(
                        f"worker {self.name} had not joined within {self._timeout:g} s", ref=self.ref
                    )
                await self._fluence.wait(container, until=Until.READY)  # raises if the container has ended
            await self._reach(contact)
        except Exception as error:
            await self._explain(error, container.ref)  # now, while the log certainly exists
            raise
        self.joined_at = loop.time()
        self._on_change(self)

    async def _reach(self, contact: str) -> None:
        """Connect once: results are fetched this way. Without it, Dask would compute them again for ever."""
        host, _, port = contact.partition("://")[2].rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                _, writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            raise LifecycleError(
                f"worker {self.name} has joined, but cannot be reached from here at {contact}: {error}",
                ref=self.ref,
            ) from error
        writer.close()

    async def _explain(self, error: Exception, ref: InstanceRef) -> None:
        """Add the container's last lines to `error`, if they can be fetched."""
        with contextlib.suppress(FluenceError):
            lines = await self._fluence.containers.logs(ref.id, last=_EVIDENCE)
            error.add_note("\n  ".join((f"The last lines of {self.name}:", *(line.text for line in lines))))


async def _comes(event: asyncio.Event, seconds: float) -> bool:
    """Return True if the event happens within that many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
