"""The conditions of waits, and the errors of a bad end: wait, update, terminate.

`watch` polls. Nothing here creates an instance, or decides what happens to a failed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, cast
from urllib.parse import urlsplit

from ..background import BackgroundTasks, loop_time
from ..errors import (
    AuthError,
    ConfigError,
    FluenceError,
    InstanceEndedError,
    InstanceFailedError,
    MinimumRuntimeError,
    WaitTimeoutError,
)
from ..models.instances import Container, Instance, InstanceRef
from ..models.ssh import ssh_access
from ..models.updates import ContainerUpdate
from ..models.values import ContainerStatus, Kind, PortProtocol, Status
from ..polling.evidence import KeyDoubt
from ..polling.history import WaitHistory, timed_out
from ..polling.poller import LAST_POLL
from ..polling.schedule import backing_off
from ..polling.watch import Pollers
from ..resources.endpoints import Endpoints
from .crash_watch import EVIDENCE, Loops, LoopWatch
from .minimum_runtime import MinimumRuntime

_SSH: Final = 22
_CONNECT_TIMEOUT: Final = 5.0
_ENDS_WITHIN: Final = 60.0
"""Seconds that an instance may still be ACTIVE after its DELETE was accepted."""
_LONGEST_PAUSE: Final = 240.0
"""Longest pause before another DELETE, in seconds. A close without any reply for 300 s gives up (custody)."""


class Until(Enum):
    """The state that a wait requires of an instance."""

    ACTIVE = "active"
    """The status is ACTIVE."""
    READY = "ready"
    """ACTIVE and usable: a container has started and has a domain, a machine has its SSH line.

    A container that was seen not running must run for 10 s. A crash loop is a failure.
    """
    REACHABLE = "reachable"
    """READY, and a TCP connection to the SSH port, or else the first exposed TCP port, succeeds."""


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


def check_until(until: object) -> None:
    """Refuse an `until` of another type, before any instance is paid for.

    Raises:
        ConfigError: `until` is no `Until`.
    """
    if not isinstance(until, Until):
        raise ConfigError(f"until is one of {', '.join(map(str, Until))}, not {until!r}")


class Waiter:
    """The waits of one session."""

    def __init__(self, pollers: Pollers, tasks: BackgroundTasks) -> None:
        self._pollers = pollers
        self.times: Final = pollers.times
        self._loops = Loops(pollers.resources, tasks, pollers.poll.pace)
        self.minimum: Final = MinimumRuntime(pollers.poll.pace)
        self._connecting = asyncio.Semaphore(16)

    async def wait(
        self,
        ref: InstanceRef,
        until: Until,
        deadline: float | None,
        *,
        fresh: bool = False,
        history: WaitHistory | None = None,
    ) -> Instance:
        """Wait until `ref` is in state `until`, and return it. See `Session.wait`.

        `fresh`: `ref` was deployed just now, so that the first poll can wait. Statuses and errors go into
        `history`, if given.

        Raises:
            InstanceFailedError: provisioning failed, or the program does not keep running (not for ACTIVE).
            InstanceEndedError: the instance has ended.
            WaitTimeoutError: `deadline` came first.
        """
        check_until(until)
        history = history or WaitHistory(ref)
        runs = LoopWatch(self._loops, history)

        def detail_matches(instance: Instance) -> bool:
            _raise_if_final(instance, history)
            if until is Until.ACTIVE or instance.status is not Status.ACTIVE:
                return instance.status is Status.ACTIVE
            is_running = not isinstance(instance, Container) or runs.is_running(instance)
            return is_running and is_ready(instance)

        failure: InstanceFailedError
        pauses: Iterator[float] | None = None
        try:
            while True:
                instance = await self._pollers.detail(
                    history, detail_matches, deadline, until.value, status_matches=_is_settled, fresh=fresh
                )
                if until is not Until.REACHABLE or await self._connect(instance, deadline):
                    return instance
                pauses = pauses or backing_off(self._pollers.poll.interval)
                await _again(history, deadline, until.value, next(pauses))
        except InstanceFailedError as error:
            failure = error
        finally:
            runs.close()
        raise await self._explained(failure, deadline, runs)

    async def send_update(self, ref: InstanceRef, update: ContainerUpdate, deadline: float | None) -> None:
        """Send `update`.

        Raises:
            WaitTimeoutError: `deadline` came first. The update may be applied.
            FluenceError: the service refused the update.
        """
        try:
            async with asyncio.timeout_at(_latest(deadline)):
                return await self._containers.update(ref.id, update)
        except TimeoutError as error:
            if not is_deadline(error):
                raise
        raise timed_out(WaitHistory(ref), "updated")

    async def update(self, ref: InstanceRef, update: ContainerUpdate, deadline: float | None) -> Container:
        """Wait until the detail shows `update`, sent before, and the container runs.

        Raises:
            InstanceFailedError: the container failed.
            InstanceEndedError: the container has ended.
            WaitTimeoutError: `deadline` came first.
        """

        history = WaitHistory(ref)
        runs = LoopWatch(self._loops, history)

        def detail_matches(instance: Instance) -> bool:
            _raise_if_final(instance, history)
            return (
                isinstance(instance, Container) and update.is_shown_by(instance) and runs.is_running(instance)
            )

        failure: InstanceFailedError
        try:
            return cast(Container, await self._pollers.detail(history, detail_matches, deadline, "updated"))
        except InstanceFailedError as error:
            failure = error
        finally:
            runs.close()
        raise await self._explained(failure, deadline, runs)

    async def terminate(self, ref: InstanceRef, deadline: float | None) -> Instance | None:
        """Call `end`, and return the ended instance. None if the service does not know the instance.

        Raises:
            FluenceError: as `end`.
        """
        if await self.end(ref, deadline):
            with contextlib.suppress(InstanceEndedError):
                return await self._pollers.detail(WaitHistory(ref), _is_over, deadline, "ended")
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

        Args:
            ref: the instance.
            deadline: loop time at which to give up. None for never.
            history: history that the wait fills in.
            may_end: called before each DELETE. False ends the wait without a DELETE.

        Returns:
            True if a reply showed the end, or if `may_end` returned False. False if a complete LIST proves
            the end (see `Evidence`).

        Raises:
            WaitTimeoutError: `deadline` came first. The instance may still be billing.
            AuthError: the service keeps refusing the key.
        """
        resource = self._pollers.resources[ref.kind]
        history = history or WaitHistory(ref)
        pauses = backing_off(3 * self._pollers.poll.interval)
        key = KeyDoubt()
        try:
            while True:
                status = await self._pollers.status(
                    history, _is_deletable, deadline, "ready to be terminated", poll_now=False
                )
                if status.final or not (may_end is None or may_end()):
                    return True
                history.refusal = None
                asked = _now()
                try:
                    async with asyncio.timeout_at(_latest(deadline)):
                        await resource.terminate(ref.id)
                except AuthError as error:
                    history.refusal = error
                    if key.refused(asked, _now()):
                        raise
                except FluenceError as error:
                    history.refusal = error
                except TimeoutError:
                    raise timed_out(history, "ended") from None
                else:
                    # An accepted DELETE may have no effect: an instance that stays is deleted again.
                    soon = min(_now() + _ENDS_WITHIN, math.inf if deadline is None else deadline)
                    with contextlib.suppress(WaitTimeoutError):
                        await self._pollers.status(history, _is_final, soon, "ended", poll_now=True)
                        return True
                history.last_error = history.refusal or history.last_error
                self.minimum.refused(history.refusal, history)
                pause = max(next(pauses), _time_left(history.refusal) * min(1.0, self._pollers.poll.pace))
                await _again(history, deadline, "ended", pause)
        except InstanceEndedError:
            return False
        finally:
            self.minimum.settled(ref)

    def expected_wait(self, ref: InstanceRef) -> float | None:
        """Rough number of seconds until `ref` can be deleted. None if unknown."""
        if (left := self.minimum.left(ref)) is not None:
            return left
        provisioning = self._pollers.expected_wait(ref)
        return None if provisioning is None else provisioning + self.minimum.after_active(ref)

    def close(self) -> None:
        """End every wait, since the session closes."""
        self._pollers.close()

    @property
    def _containers(self) -> Endpoints:
        return self._pollers.resources[Kind.CONTAINER]

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


def _now() -> float:
    return asyncio.get_running_loop().time()


def _latest(deadline: float | None) -> float | None:
    """Deadline of a wait's request: `deadline`, but no earlier than `LAST_POLL` from now."""
    return None if deadline is None else max(deadline, _now() + LAST_POLL)


def is_deadline(error: TimeoutError) -> bool:
    """Return True if `error` is `asyncio.timeout`'s, not the library's (NoReplyError is a TimeoutError)."""
    return type(error) is TimeoutError


async def _again(history: WaitHistory, deadline: float | None, what: str, pause: float) -> None:
    """Pause before another round, or time out if the deadline has come."""
    left = math.inf if deadline is None else deadline - _now()
    if left <= 0:
        raise timed_out(history, what)
    await asyncio.sleep(min(pause, left))


def _time_left(refusal: FluenceError | None) -> float:
    """Seconds until a DELETE is accepted, by the text of its refusal. 0.0 if the text names none."""
    if not isinstance(refusal, MinimumRuntimeError) or refusal.retry_after is None:
        return 0.0
    return min(refusal.retry_after, _LONGEST_PAUSE)


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


def _is_final(status: Status) -> bool:
    return status.final


def _is_over(instance: Instance) -> bool:
    return instance.status.final


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
