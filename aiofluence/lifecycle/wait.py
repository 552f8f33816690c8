"""The conditions of waits, and the errors of a bad end: wait, update, terminate.

`poller` polls. Nothing here creates an instance, or decides what happens to a failed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, cast
from urllib.parse import urlsplit

from ..background import BackgroundTasks, loop_time
from ..errors import (
    AuthError,
    ConfigError,
    FluenceError,
    InstanceEndedError,
    InstanceFailedError,
    WaitTimeoutError,
)
from ..models.instances import Container, Instance, InstanceRef
from ..models.ssh import ssh_access
from ..models.updates import ContainerUpdate
from ..models.values import ContainerStatus, Kind, PortProtocol, Status
from ..polling.estimate import LifeTable
from ..polling.evidence import KeyDoubt
from ..polling.options import Poll
from ..polling.poller import LAST_POLL, Poller
from ..polling.schedule import backing_off
from ..polling.state import WaitHistory, WaitRequest, timed_out
from .crash_loop import EVIDENCE, Loops, LoopWatch
from .minimum_runtime import MinimumRuntime
from .options import Until

_is_final: Final = attrgetter("final")
_SSH: Final = 22
_CONNECT_TIMEOUT: Final = 5.0
_ENDS_WITHIN: Final = 60.0
"""Seconds that an instance may still be ACTIVE after its DELETE was accepted."""


def deadline_in(timeout: float | None) -> float | None:
    """Loop time `timeout` seconds from now. None for None.

    Raises:
        ConfigError: `timeout` is no number of seconds.
    """
    if timeout is None:
        return None
    if not timeout >= 0:
        raise ConfigError(f"timeout is a number of seconds or None, not {timeout!r}")
    return loop_time() + timeout


class Waiter:
    """The waits of one session."""

    def __init__(self, pollers: Mapping[Kind, Poller], poll: Poll, tasks: BackgroundTasks) -> None:
        self._pollers = pollers
        self._interval = poll.interval
        self._containers = pollers[Kind.CONTAINER].endpoints
        self._loops = Loops(self._containers, tasks, poll.pace)
        self.minimum: Final = MinimumRuntime(poll.pace)
        self._connecting = asyncio.Semaphore(16)

    def wait(
        self,
        ref: InstanceRef,
        until: Until,
        deadline: float | None,
        *,
        fresh: bool = False,
        history: WaitHistory | None = None,
    ) -> Coroutine[Any, Any, Instance]:
        """Wait until `ref` is in state `until`, and return it. See `Session.wait`.

        `fresh`: `ref` was deployed just now, so that the first poll can wait. Statuses and errors go into
        `history`, if given.
        """

        def matches(instance: Instance, runs: LoopWatch) -> bool:
            if until is Until.ACTIVE or instance.status is not Status.ACTIVE:
                return instance.status is Status.ACTIVE
            is_running = not isinstance(instance, Container) or runs.is_running(instance)
            return is_running and is_ready(instance)

        history = history or WaitHistory(ref)
        return self._wait(history, matches, deadline, until.value, _is_settled, fresh=fresh)

    async def send_update(self, ref: InstanceRef, update: ContainerUpdate, deadline: float | None) -> None:
        """Send `update`. At the deadline, raise a WaitTimeoutError: the update may be applied."""
        try:
            async with asyncio.timeout_at(_latest(deadline)):
                return await self._containers.update(ref.id, update)
        except TimeoutError as error:
            if not is_deadline(error):
                raise
        raise timed_out(WaitHistory(ref), "updated")

    def update(
        self, ref: InstanceRef, update: ContainerUpdate, deadline: float | None
    ) -> Coroutine[Any, Any, Instance]:
        """Wait until the detail shows `update`, sent before, and the container runs."""

        def matches(instance: Instance, runs: LoopWatch) -> bool:
            return (
                isinstance(instance, Container) and update.is_shown_by(instance) and runs.is_running(instance)
            )

        return self._wait(WaitHistory(ref), matches, deadline, "updated")

    async def _wait(
        self,
        history: WaitHistory,
        matches: Callable[[Instance, LoopWatch], bool],
        deadline: float | None,
        what: str,
        status_matches: Callable[[Status], bool] | None = None,
        *,
        fresh: bool = False,
    ) -> Instance:
        """Wait until `matches` accepts the detail. For `what` "reachable", a connection must succeed, too.

        Raises:
            InstanceFailedError: provisioning failed, or the program does not keep running.
            InstanceEndedError: the instance has ended.
            WaitTimeoutError: `deadline` came first.
        """
        runs, poller = LoopWatch(self._loops, history), self._pollers[history.ref.kind]

        def detail_matches(instance: Instance) -> bool:
            _raise_if_final(instance, history)
            return matches(instance, runs)

        failure: InstanceFailedError
        pauses: Iterator[float] | None = None
        try:
            while True:
                wait = WaitRequest(
                    history, status_matches, detail_matches, deadline, what, poll_now=status_matches is None
                )
                instance: Instance = await poller.wait(wait, fresh=fresh)
                if what != Until.REACHABLE.value or await self._connect(instance, deadline):
                    return instance
                pauses = pauses or backing_off(self._interval)
                await _again(history, deadline, what, next(pauses))
        except InstanceFailedError as error:
            failure = error
        finally:
            runs.close()
        raise await self._explained(failure, deadline, runs)

    async def terminate(self, ref: InstanceRef, deadline: float | None) -> Instance | None:
        """Call `end`, and return the ended instance. None if the service does not know the instance."""
        if not await self.end(ref, deadline):
            return None
        wait = WaitRequest(
            WaitHistory(ref), None, attrgetter("status.final"), deadline, "ended", poll_now=True
        )
        with contextlib.suppress(InstanceEndedError):
            return cast(Instance, await self._pollers[ref.kind].wait(wait))
        return None

    async def end(
        self,
        ref: InstanceRef,
        deadline: float | None,
        *,
        history: WaitHistory | None = None,
        may_end: Callable[[], bool] | None = None,
    ) -> bool:
        """Wait until `ref` may be deleted, delete it, and wait until it has ended.

        DELETE is refused while an instance is not ACTIVE (contract 5), so it is sent once a poll shows ACTIVE
        or a status that this release does not know. After a refusal the status is polled again.

        Returns True if a reply showed the end, or if `may_end`, called before each DELETE, returned False.
        Returns False if a complete LIST proves the end (see `Evidence`). Fills in `history`, if given.

        Raises:
            WaitTimeoutError: `deadline` came first. The instance may still be billing.
            AuthError: the service keeps refusing the key.
        """
        poller = self._pollers[ref.kind]
        history = history or WaitHistory(ref)
        pauses = backing_off(3 * self._interval)
        key = KeyDoubt()
        try:
            while True:
                what = "ready to be terminated"
                wait = WaitRequest(history, _is_deletable, None, deadline, what, poll_now=False)
                status: Status = await poller.wait(wait)
                if status.final or not (may_end is None or may_end()):
                    return True
                history.refusal = None
                asked = loop_time()
                try:
                    async with asyncio.timeout_at(_latest(deadline)):
                        await poller.endpoints.terminate(ref.id)
                except AuthError as error:
                    history.refusal = error
                    if key.refused(asked, loop_time()):
                        raise
                except FluenceError as error:
                    history.refusal = error
                except TimeoutError:
                    raise timed_out(history, "ended") from None
                else:
                    # An accepted DELETE may have no effect: an instance that stays is deleted again.
                    soon = loop_time() + _ENDS_WITHIN
                    soon = soon if deadline is None else min(soon, deadline)
                    with contextlib.suppress(WaitTimeoutError):
                        await poller.wait(WaitRequest(history, _is_final, None, soon, "ended", poll_now=True))
                        return True
                history.last_error = history.refusal or history.last_error
                pause = max(next(pauses), self.minimum.refused(history.refusal, history))
                await _again(history, deadline, "ended", pause)
        except InstanceEndedError:
            return False
        finally:
            self.minimum.settled(ref)

    def times(self, kind: Kind) -> LifeTable:
        """Return the distribution of provisioning times seen so far of a kind."""
        return self._pollers[kind].times()

    def expected_wait(self, ref: InstanceRef) -> float | None:
        """Rough number of seconds until `ref` can be deleted. None if unknown."""
        if (left := self.minimum.left(ref)) is not None:
            return left
        provisioning = self._pollers[ref.kind].expected_wait(ref.id)
        return None if provisioning is None else provisioning + self.minimum.after_active(ref)

    def close(self) -> None:
        """End every wait, since the session closes."""
        for poller in self._pollers.values():
            poller.close()

    async def _connect(self, instance: Instance, deadline: float | None) -> bool:
        """Return True if a TCP connection to the instance succeeds within 5 s, and by the deadline."""
        try:
            where = address(instance)
            if where is None:
                return False
            async with (
                asyncio.timeout_at(_latest(deadline)),
                self._connecting,
                asyncio.timeout(_CONNECT_TIMEOUT),
            ):
                # Happy Eyeballs: IPv6 and IPv4 race, so that a dead address costs no time.
                _, writer = await asyncio.open_connection(*where, happy_eyeballs_delay=0.25)
        except Exception:  # OSError, TimeoutError, and any error from a malformed address
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def _explained(
        self, failure: InstanceFailedError, deadline: float | None, runs: LoopWatch
    ) -> InstanceFailedError:
        """Add a container's events and last lines to `failure`, if they come in time."""
        if failure.ref is not None and failure.ref.kind is Kind.CONTAINER and not runs.has_logs:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(_latest(deadline)):
                    with contextlib.suppress(FluenceError):
                        events = failure.events or await self._containers.events(
                            failure.ref.id, last=EVIDENCE
                        )
                        failure.events = tuple(events)
                    with contextlib.suppress(FluenceError):
                        failure.logs = tuple(await self._containers.logs(failure.ref.id, last=EVIDENCE))
        return failure


def _latest(deadline: float | None) -> float | None:
    """Deadline of a wait's request: `deadline`, but no earlier than `LAST_POLL` from now."""
    return None if deadline is None else max(deadline, loop_time() + LAST_POLL)


def is_deadline(error: TimeoutError) -> bool:
    """Return True if `error` is `asyncio.timeout`'s, not the library's (NoReplyError is a TimeoutError)."""
    return type(error) is TimeoutError


async def _again(history: WaitHistory, deadline: float | None, what: str, pause: float) -> None:
    """Pause before another round, or time out if the deadline has come."""
    left = math.inf if deadline is None else deadline - loop_time()
    if left <= 0:
        raise timed_out(history, what)
    await asyncio.sleep(min(pause, left))


def is_ready(instance: Instance) -> bool:
    """Return True if an ACTIVE instance can be used: it has started, and has an address."""
    if isinstance(instance, Container):
        network = instance.network
        return (
            instance.container_status is ContainerStatus.STARTED
            and network is not None
            and bool(network.domain or network.uri)
        )
    return instance.ssh_connection is not None


def address(instance: Instance) -> tuple[str, int] | None:
    """Host and port to connect to: SSH if present, else the first exposed TCP port, else the web address."""
    if not isinstance(instance, Container):
        access = ssh_access(instance)
        return (access.host, access.port) if access else None
    network = instance.network
    if network is None:
        return None
    ports = [port for port in network.forwarded_ports if port.protocol is not PortProtocol.UDP]
    ports.sort(key=lambda port: port.port != _SSH)
    if ports and network.domain:
        return network.domain, ports[0].external_port
    uri = urlsplit(network.uri or "")
    return (uri.hostname, uri.port or (80 if uri.scheme == "http" else 443)) if uri.hostname else None


def _is_settled(status: Status) -> bool:
    """Return True if provisioning is over, successful or not."""
    return status.final or status is Status.ACTIVE


def _is_deletable(status: Status) -> bool:
    """Return True if the service may accept a DELETE. For an unknown status it may."""
    return status is not Status.INITIALIZED


def _raise_if_final(instance: Instance, history: WaitHistory) -> None:
    if not instance.status.final:
        return
    failed = instance.status is Status.FAILED
    kind = InstanceFailedError if failed else InstanceEndedError
    raise kind(
        f"{history.ref} {'failed; the service refunds it' if failed else 'has ended'}",
        ref=history.ref,
        last_seen=instance,
        timeline=history.timeline,
    )
