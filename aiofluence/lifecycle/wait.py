"""What is awaited of an instance, and what a bad end means: wait, update, terminate.

The looking is `watch`'s; nothing here creates an instance or decides what becomes of a failed one.
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
"""Longest pause before another DELETE, in seconds: a close without any reply for 300 s gives up (custody)."""


class Until(Enum):
    """How far an instance must have come."""

    ACTIVE = "active"
    """The service says ACTIVE."""
    READY = "ready"
    """ACTIVE, and it can be used: a container has started and has a domain, a machine has its SSH line.

    A container that was seen not to run must run for 10 s. One that crashes again and again is a failure.
    """
    REACHABLE = "reachable"
    """READY, and a TCP connection to the SSH port, or else the first exposed TCP port, succeeds."""


def deadline_in(timeout: float | None) -> float | None:
    """The loop time `timeout` seconds from now; None for None.

    Raises:
        ConfigError: it is no number of seconds.
    """
    if timeout is None:
        return None
    if not timeout >= 0:
        raise ConfigError(f"timeout is a number of seconds or None, not {timeout!r}")
    return loop_time() + timeout


def check_until(until: object) -> None:
    """Refuse what `until` cannot be, before anything is paid for.

    Raises:
        ConfigError: it is no `Until`.
    """
    if not isinstance(until, Until):
        raise ConfigError(f"until is one of {', '.join(map(str, Until))}, not {until!r}")


class Waiter:
    """The waits of one session."""

    def __init__(self, watch: Pollers, home: BackgroundTasks) -> None:
        self._watch = watch
        self._loops = Loops(watch.resources, home, watch.poll.pace)
        self.minimum: Final = MinimumRuntime(watch.poll.pace)
        self._connecting = asyncio.Semaphore(16)

    async def wait(
        self,
        ref: InstanceRef,
        until: Until,
        deadline: float | None,
        *,
        fresh: bool = False,
        seen: WaitHistory | None = None,
    ) -> Instance:
        """Wait until `ref` is as far as `until`; see `Session.wait` for what it raises.

        `fresh` says that it was deployed this moment: then the first look can wait a while. What is seen
        goes into `seen`, if the caller wants it.

        Raises:
            InstanceFailedError: its provisioning failed, or its program does not stay (not for ACTIVE).
            InstanceEndedError: it has ended.
            WaitTimeoutError: `deadline` came first.
        """
        check_until(until)
        seen = seen or WaitHistory(ref)
        runs = LoopWatch(self._loops, seen)

        def detail_matches(instance: Instance) -> bool:
            _raise_if_final(instance, seen)
            if until is Until.ACTIVE or instance.status is not Status.ACTIVE:
                return instance.status is Status.ACTIVE
            is_running = not isinstance(instance, Container) or runs.is_running(instance)
            return is_running and is_ready(instance)

        failure: InstanceFailedError
        pauses: Iterator[float] | None = None
        try:
            while True:
                instance = await self._watch.detail(
                    seen, detail_matches, deadline, until.value, status_matches=_is_settled, fresh=fresh
                )
                if until is not Until.REACHABLE or await self._connect(instance, deadline):
                    return instance
                pauses = pauses or backing_off(self._watch.poll.interval)
                await _again(seen, deadline, until.value, next(pauses))
        except InstanceFailedError as error:
            failure = error
        finally:
            runs.close()
        raise await self._explained(failure, deadline, runs)

    async def send_update(self, ref: InstanceRef, update: ContainerUpdate, deadline: float | None) -> None:
        """Send `update`.

        Raises:
            WaitTimeoutError: `deadline` came first; it may be applied.
            FluenceError: it was refused.
        """
        try:
            async with asyncio.timeout_at(_latest(deadline)):
                return await self._containers.update(ref.id, update)
        except TimeoutError as error:
            if not is_deadline(error):
                raise
        raise timed_out(WaitHistory(ref), "updated")

    async def update(self, ref: InstanceRef, update: ContainerUpdate, deadline: float | None) -> Container:
        """Wait until the detail shows `update`, which was sent, and the container runs.

        Raises:
            InstanceFailedError: it failed.
            InstanceEndedError: it has ended.
            WaitTimeoutError: `deadline` came first.
        """

        seen = WaitHistory(ref)
        runs = LoopWatch(self._loops, seen)

        def detail_matches(instance: Instance) -> bool:
            _raise_if_final(instance, seen)
            return (
                isinstance(instance, Container) and update.is_shown_by(instance) and runs.is_running(instance)
            )

        failure: InstanceFailedError
        try:
            return cast(Container, await self._watch.detail(seen, detail_matches, deadline, "updated"))
        except InstanceFailedError as error:
            failure = error
        finally:
            runs.close()
        raise await self._explained(failure, deadline, runs)

    async def terminate(self, ref: InstanceRef, deadline: float | None) -> Instance | None:
        """`end`, and one more look: the instance as it ended, None when the service does not know it.

        Raises:
            FluenceError: as `end`.
        """
        if await self.end(ref, deadline):
            with contextlib.suppress(InstanceEndedError):
                return await self._watch.detail(WaitHistory(ref), _is_over, deadline, "ended")
        return None

    async def end(
        self,
        ref: InstanceRef,
        deadline: float | None,
        *,
        seen: WaitHistory | None = None,
        may_end: Callable[[], bool] | None = None,
    ) -> bool:
        """See `ref` gone: wait until it may be deleted, delete it, wait until it has ended.

        DELETE is refused while an instance is not ACTIVE (contract 5), so it is sent once a poll shows ACTIVE
        or a status that this release does not know. After a refusal the status is polled again.

        Args:
            ref: the instance.
            deadline: loop time at which to give up; None for never.
            seen: filled in with what is seen meanwhile.
            may_end: asked before each DELETE; False ends the wait without one.

        Returns:
            True when a reply showed the end, or when `may_end` said no; False when a complete LIST proves it
            (see `Evidence`).

        Raises:
            WaitTimeoutError: `deadline` came first; the instance may still be billing.
            AuthError: the service keeps refusing the key.
        """
        resource = self._watch.resources[ref.kind]
        seen = seen or WaitHistory(ref)
        pauses = backing_off(3 * self._watch.poll.interval)
        key = KeyDoubt()
        try:
            while True:
                status = await self._watch.status(
                    seen, _is_deletable, deadline, "ready to be terminated", poll_now=False
                )
                if status.final or not (may_end is None or may_end()):
                    return True
                seen.refusal = None
                asked = _now()
                try:
                    async with asyncio.timeout_at(_latest(deadline)):
                        await resource.terminate(ref.id)
                except AuthError as error:
                    seen.refusal = error
                    if key.refused(asked, _now()):
                        raise
                except FluenceError as error:
                    seen.refusal = error
                except TimeoutError:
                    raise timed_out(seen, "ended") from None
                else:
                    # Accepted is not done: an instance that is still there after a while is deleted again.
                    soon = min(_now() + _ENDS_WITHIN, math.inf if deadline is None else deadline)
                    with contextlib.suppress(WaitTimeoutError):
                        await self._watch.status(seen, _is_final, soon, "ended", poll_now=True)
                        return True
                seen.last_error = seen.refusal or seen.last_error
                self.minimum.refused(seen.refusal, seen)
                pause = max(next(pauses), _time_left(seen.refusal) * min(1.0, self._watch.poll.pace))
                await _again(seen, deadline, "ended", pause)
        except InstanceEndedError:
            return False
        finally:
            self.minimum.settled(ref)

    def expected_wait(self, ref: InstanceRef) -> float | None:
        """Seconds until `ref` can be deleted, roughly; None when that is not known."""
        if (left := self.minimum.left(ref)) is not None:
            return left
        provisioning = self._watch.expected_wait(ref)
        return None if provisioning is None else provisioning + self.minimum.after_active(ref)

    def close(self) -> None:
        """End every wait, since the session closes."""
        self._watch.close()

    @property
    def _containers(self) -> Endpoints:
        return self._watch.resources[Kind.CONTAINER]

    async def _connect(self, instance: Instance, deadline: float | None) -> bool:
        """Whether a TCP connection to the instance succeeds within five seconds, and by the deadline."""
        try:
            where = address(instance)
            if where is None:
                return False
            async with (
                asyncio.timeout_at(_latest(deadline)),
                self._connecting,
                asyncio.timeout(_CONNECT_TIMEOUT),
            ):
                # Happy Eyeballs: IPv6 and IPv4 race, so that a dead one of them costs no time.
                _, writer = await asyncio.open_connection(*where, happy_eyeballs_delay=0.25)
        except Exception:  # OSError, TimeoutError, and whatever is made of an address that is none
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def _explained(
        self, failure: InstanceFailedError, deadline: float | None, runs: LoopWatch
    ) -> InstanceFailedError:
        """`failure`, with a container's events and last lines, if they can be had in time."""
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
    """Until when a request of a wait may take: one that falls on the deadline has a moment more."""
    return None if deadline is None else max(deadline, _now() + LAST_POLL)


def is_deadline(error: TimeoutError) -> bool:
    """Whether it is `asyncio.timeout`'s own, not one of ours (NoReplyError is a TimeoutError, too)."""
    return type(error) is TimeoutError


async def _again(seen: WaitHistory, deadline: float | None, what: str, pause: float) -> None:
    """Pause before another round, or give up when the deadline has come."""
    left = math.inf if deadline is None else deadline - _now()
    if left <= 0:
        raise timed_out(seen, what)
    await asyncio.sleep(min(pause, left))


def _time_left(refusal: FluenceError | None) -> float:
    """Seconds until a DELETE is accepted, by the text of its refusal; 0.0 when the text does not say."""
    if not isinstance(refusal, MinimumRuntimeError) or refusal.retry_after is None:
        return 0.0
    return min(refusal.retry_after, _LONGEST_PAUSE)


def is_ready(instance: Instance) -> bool:
    """Whether an ACTIVE instance can be used: started, and with an address."""
    if isinstance(instance, Container):
        network = instance.network
        return (
            instance.container_status is ContainerStatus.STARTED
            and network is not None
            and bool(network.domain or network.uri)
        )
    return instance.ssh_connection is not None


def address(instance: Instance) -> tuple[str, int] | None:
    """Host and port to try: SSH where there is one, else the first exposed TCP port, else the web address."""
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
    """Provisioning is over, well or not: from here on it can be used, or ended, or has ended."""
    return status.final or status is Status.ACTIVE


def _is_deletable(status: Status) -> bool:
    """Whether a DELETE is worth a try: an unknown status may be one that the service deletes."""
    return status is not Status.INITIALIZED


def _is_final(status: Status) -> bool:
    return status.final


def _is_over(instance: Instance) -> bool:
    return instance.status.final


def _raise_if_final(instance: Instance, seen: WaitHistory) -> None:
    if not instance.status.final:
        return
    failed = instance.status is Status.FAILED
    kind = InstanceFailedError if failed else InstanceEndedError
    raise kind(
        f"{seen.ref} {'failed; the service refunds it' if failed else 'has ended'}",
        ref=seen.ref,
        last_seen=instance,
        timeline=seen.timeline,
    )
