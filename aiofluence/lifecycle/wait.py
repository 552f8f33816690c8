"""What is awaited of an instance, and what a bad end means: wait, update, terminate.

The looking is `watch`'s; nothing here creates an instance or decides what becomes of a failed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Final, cast
from urllib.parse import urlsplit

from ..errors import AuthError, ConfigError, FluenceError, InstanceEndedError, InstanceFailedError
from ..models.instances import Container, Instance, InstanceRef
from ..models.updates import ContainerUpdate
from ..models.values import ContainerStatus, Kind, PortProtocol, Status
from ..resources.containers import Containers
from .watch import Seen, Watch, timed_out

_SSH: Final = 22
_CONNECT_TIMEOUT: Final = 5.0
_EVIDENCE: Final = 20
"""How many events and log lines an InstanceFailedError brings along."""


class Until(Enum):
    """How far an instance must have come."""

    ACTIVE = "active"
    """The service says ACTIVE."""
    READY = "ready"
    """ACTIVE, and it can be used: a container has started and has a domain, a machine has its SSH line."""
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
    return asyncio.get_running_loop().time() + timeout


class Waiter:
    """The waits of one session."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._connecting = asyncio.Semaphore(16)

    async def wait(self, ref: InstanceRef, until: Until, deadline: float | None) -> Instance:
        """Wait until `ref` is as far as `until`; see `Session.wait` for what it raises.

        Raises:
            InstanceFailedError: its provisioning failed.
            InstanceEndedError: it has ended.
            WaitTimeoutError: `deadline` came first.
        """

        seen = Seen(ref)

        def reached(instance: Instance) -> bool:
            _raise_if_final(instance, seen)
            return instance.status is Status.ACTIVE and (until is Until.ACTIVE or is_ready(instance))

        async def look() -> Instance:
            while True:
                instance = await self._watch.until(seen, reached, deadline, until.value)
                if until is not Until.REACHABLE or await self._connect(instance):
                    return instance
                await self._again(seen, deadline, until.value)

        return await self._explained(look())

    async def update(
        self, ref: InstanceRef, update: ContainerUpdate, deadline: float | None, *, sent: bool = False
    ) -> Container:
        """Send `update`, unless it was `sent`, and wait until the detail shows it and the container runs.

        Raises:
            InstanceFailedError: it failed.
            InstanceEndedError: it has ended.
            WaitTimeoutError: `deadline` came first.
            FluenceError: the update was refused.
        """

        seen = Seen(ref)

        def reached(instance: Instance) -> bool:
            _raise_if_final(instance, seen)
            return (
                isinstance(instance, Container)
                and update.is_shown_by(instance)
                and instance.container_status is ContainerStatus.STARTED
            )

        if not sent:
            await self._containers.update(ref.id, update)
        looking = self._watch.until(seen, reached, deadline, "updated")
        return cast(Container, await self._explained(looking))

    async def end(self, ref: InstanceRef, deadline: float | None) -> Instance | None:
        """See `ref` gone: wait until it may be deleted, delete it, wait until it has ended.

        DELETE is refused while an instance is not ACTIVE, so it is sent when a look says ACTIVE, and after
        a refusal the status is read again. Gives the last look, None when the service does not know it.

        Raises:
            WaitTimeoutError: `deadline` came first; it may still be billing.
            AuthError: the key is not, or no longer, good.
        """
        resource = self._watch.resources[ref.kind]

        seen = Seen(ref)

        try:
            while True:
                instance = await self._watch.until(seen, _may_be_ended, deadline, "ready to be terminated")
                if instance.status.final:
                    return instance
                try:
                    await resource.terminate(ref.id)
                except AuthError:
                    raise
                except FluenceError as error:
                    refusal = error
                else:
                    return await self._watch.until(seen, _is_final, deadline, "ended")
                seen.last_error = refusal
                await self._again(seen, deadline, "ended")
        except InstanceEndedError:
            return seen.last

    @property
    def _containers(self) -> Containers:
        return cast(Containers, self._watch.resources[Kind.CONTAINER])

    async def _again(self, seen: Seen, deadline: float | None, what: str) -> None:
        """Pause before another round, or give up when the deadline has come."""
        if deadline is not None and asyncio.get_running_loop().time() >= deadline:
            raise timed_out(seen, what)
        await self._watch.pause(deadline)

    async def _connect(self, instance: Instance) -> bool:
        """Whether a TCP connection to the instance succeeds within five seconds."""
        where = address(instance)
        if where is None:
            return False
        async with self._connecting:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    # Happy Eyeballs: IPv6 and IPv4 race, so that a dead one of them costs no time.
                    _, writer = await asyncio.open_connection(*where, happy_eyeballs_delay=0.25)
            except OSError:  # TimeoutError is one
                return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def _explained(self, looking: Coroutine[Any, Any, Instance]) -> Instance:
        """Await `looking`; a failed container's error gets its events and last lines, if they can be had."""
        try:
            return await looking
        except InstanceFailedError as error:
            failure = error
        if failure.ref is not None and failure.ref.kind is Kind.CONTAINER:
            with contextlib.suppress(FluenceError):
                failure.events = tuple(await self._containers.events(failure.ref.id, last=_EVIDENCE))
            with contextlib.suppress(FluenceError):
                failure.logs = tuple(await self._containers.logs(failure.ref.id, last=_EVIDENCE))
        raise failure


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
        return _ssh_address(instance.ssh_connection)
    network = instance.network
    if network is None:
        return None
    ports = [port for port in network.forwarded_ports if port.protocol is not PortProtocol.UDP]
    ports.sort(key=lambda port: port.port != _SSH)
    if ports and network.domain:
        return network.domain, ports[0].external_port
    uri = urlsplit(network.uri or "")
    return (uri.hostname, uri.port or (80 if uri.scheme == "http" else 443)) if uri.hostname else None


def _ssh_address(line: str | None) -> tuple[str, int] | None:
    """Of `ssh ubuntu@203.0.113.7` or `ssh -p 2222 ubuntu@host`."""
    match = re.search(r"(?:^|\s)(?:[^\s@]+@)(\S+)", line or "")
    port = re.search(r"\s-p\s*(\d+)", line or "")
    return (match[1].strip("[]"), int(port[1]) if port else _SSH) if match else None


def _may_be_ended(instance: Instance) -> bool:
    return instance.status.final or instance.status is Status.ACTIVE


def _is_final(instance: Instance) -> bool:
    return instance.status.final


def _raise_if_final(instance: Instance, seen: Seen) -> None:
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
