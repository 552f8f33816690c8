"""Startup commands of simulated containers as processes of this machine: `LocalProcesses`.

It polls the simulator, starts and stops processes accordingly, and reports lines and exits through public
methods. There is no container and no sandbox: a command has all the rights of the user who runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Container, Iterable
from typing import Final

import attrs

from .clock import VirtualClockLoop
from .instances import ContainerInstance, State
from .simulator import Simulator

HOST: Final = "127.0.0.1"
_TICK: Final = 0.05
"""Real seconds between two polls of the simulator when no request causes one."""
_READ: Final = 2**16
"""Bytes per read, and maximum length of an unfinished line before it is cut."""
_LAST_READS: Final = 16
"""Reads of a dead process's pipe: more than a pipe holds."""
# Below the ephemeral ports of common systems, so another program is unlikely to take a port in between.
_PORTS: Final = range(20000, 32000)


@attrs.define(eq=False)
class _Child:
    """Process group of one container. Its leader is the startup command."""

    instance: ContainerInstance
    pod: str
    process: subprocess.Popen[bytes]
    home: str
    output: int
    """The parent's end of the pipe for the child's stdout and stderr."""
    line: bytes = b""
    """Output after the last newline."""
    kill_at: float | None = None
    """Loop time of the kill. None while the child should run."""

    @property
    def runs(self) -> bool:
        """Return True if the instance is started and no update has replaced this child's program."""
        return self.instance.started and _pod(self.instance) == self.pod

    def signal(self, number: int) -> None:
        """Send a signal to the whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: PermissionError for zombies
            os.killpg(self.process.pid, number)


class LocalProcesses:
    """Local processes for the containers of one server. Linux and macOS, real time only.

    ```python
    async with SimulatorServer(Simulator(api_key=secrets.token_hex()), processes=LocalProcesses()):
        ...
    ```

    Each startup command is split as a shell would split it, and run without a shell. It has a session and
    process group of its own, and starts in an empty directory that is its `HOME`. Its environment has the
    container's variables, `PATH`, `HOME`, and `PORT_<port>` for each exposed port. `PORT_<port>` is the port
    to listen on at 127.0.0.1, and equals the forwarded external port. The output becomes the container's log.
    After an exit, the command is started again or the instance ends, as the profile's `restarts` says.
    A container without a startup command runs nothing. No container prints generated lines.

    Args:
        max_children: containers at once. The provisioning of one more fails. A place is free again when its
            processes have ended, up to `grace` seconds after their instance.
        grace: real seconds between SIGTERM and SIGKILL.

    Raises:
        ValueError: the system is not POSIX, or an argument is out of range.
    """

    def __init__(self, max_children: int = 16, *, grace: float = 5.0) -> None:
        if os.name != "posix":
            raise ValueError("processes can only be run on Linux and macOS")
        if max_children < 1 or not grace >= 0:
            raise ValueError("max_children must be at least 1, and grace at least 0 seconds")
        self.max_children = max_children
        self.grace = grace
        # Keyed by object, not by id: after a reset, other instances may have the same ids.
        self._children: dict[ContainerInstance, _Child] = {}
        self._admitted: dict[ContainerInstance, tuple[int, ...]] = {}
        """Ports of every container that has a place."""
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self, simulator: Simulator, now: Callable[[], float]) -> None:
        """Begin to poll the simulator. Wires and servers call this. `now` returns the simulated second.

        Raises:
            ValueError: the object serves another server already, or the loop's clock is virtual.
        """
        if self._task is not None:
            raise ValueError("each server needs LocalProcesses of its own")
        if isinstance(asyncio.get_running_loop(), VirtualClockLoop):
            raise ValueError("processes need real time, and this loop's clock jumps")
        self._simulator = simulator
        self.look()
        self._task = asyncio.create_task(self._poll(now))

    async def close(self) -> None:
        """Stop all processes: SIGTERM, then SIGKILL after `grace` seconds, or immediately if cancelled."""
        if self._task is None:
            return
        self._closing = True
        try:
            self.look()
            while self._children:
                await asyncio.sleep(_TICK)
                self.look()
        finally:
            self._task.cancel()
            for child in self._children.values():
                child.signal(signal.SIGKILL)
            for child in list(self._children.values()):
                child.process.wait()
                self._bury(child)
        with contextlib.suppress(asyncio.CancelledError):
            await self._task  # raises the error that ended the polling, if any

    def look(self) -> None:
        """Start and stop processes as required. Wires and servers call it after each request and reset."""
        if self._simulator.cluster.log_interval is not None:  # no generated lines, also after a reset
            self._simulator.cluster = attrs.evolve(self._simulator.cluster, log_interval=None)
        live = [i for i in self._simulator.live() if isinstance(i, ContainerInstance)]
        if self._closing:
            live = []
        for child in list(self._children.values()):
            self._tend(child, live=child.instance in live)
        for gone in self._admitted.keys() - set(live) - self._children.keys():
            del self._admitted[gone]
        for instance in live:
            if instance.state is State.INITIALIZED and instance.failure is None:
                self._admit(instance)
            elif instance.started and instance in self._admitted and instance not in self._children:
                self._launch(instance)

    async def _poll(self, now: Callable[[], float]) -> None:
        while True:
            self._simulator.advance(now())
            self.look()
            await asyncio.sleep(_TICK)

    # One container

    def _admit(self, instance: ContainerInstance) -> None:
        """Give a new container a place and ports, or make its provisioning fail."""
        if instance in self._admitted:
            return
        if len(self._admitted) >= self.max_children:
            reason = f"0/1 nodes are available: this simulator runs at most {self.max_children} containers"
            self._simulator.refuse_room(instance.id, reason)
            return
        taken = {port for ports in self._admitted.values() for port in ports}
        ports = _free_ports(len(instance.expose), taken)
        self._admitted[instance] = ports
        self._simulator.place(instance.id, HOST, ports)

    def _launch(self, instance: ContainerInstance) -> None:
        """Run the startup command. A command that cannot be run exits immediately."""
        if instance.settings.startup_command is None:
            return
        try:
            child = self._spawn(instance, shlex.split(instance.settings.startup_command))
        except (OSError, ValueError, IndexError) as error:  # no such program, or invalid quotes or bytes
            self._simulator.print(instance.id, f"cannot run the startup command: {error}")
            self._simulator.exit(instance.id, 127)
            return
        self._children[instance] = child
        asyncio.get_running_loop().add_reader(child.output, self._read, child)

    def _spawn(self, instance: ContainerInstance, command: list[str]) -> _Child:
        with contextlib.ExitStack() as undo:
            home = tempfile.mkdtemp(prefix="aiofluence-")
            undo.callback(shutil.rmtree, home, ignore_errors=True)
            ours, theirs = os.pipe()
            undo.callback(os.close, ours)
            os.set_blocking(ours, False)
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=theirs,
                    stderr=theirs,
                    cwd=home,
                    env=self._environment(instance, home),
                    start_new_session=True,
                )
            finally:
                os.close(theirs)
            undo.pop_all()  # the child owns these resources now
        return _Child(instance, _pod(instance), process, home, ours)

    def _environment(self, instance: ContainerInstance, home: str) -> dict[str, str]:
        """Return the environment of the process. Only `PATH` comes from our own environment."""
        settings = instance.settings
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, **dict(settings.environment)}
        if settings.ssh_key is not None:
            environment["SSH_PUBKEY"] = settings.ssh_key
        for port, number in zip(instance.expose, self._admitted[instance], strict=True):
            environment[f"PORT_{port.port}"] = str(number)
        return environment

    def _tend(self, child: _Child, *, live: bool) -> None:
        """Clean up after a child that has ended, and stop a child that should not run."""
        wanted = live and child.runs
        code = child.process.poll()
        now = asyncio.get_running_loop().time()
        if code is not None:
            self._bury(child)
            if wanted and child.kill_at is None:
                self._simulator.exit(child.instance.id, code if code >= 0 else 128 - code)
        elif child.kill_at is None and not wanted:
            child.kill_at = now + self.grace
            child.signal(signal.SIGTERM)
        elif child.kill_at is not None and child.kill_at <= now:
            child.signal(signal.SIGKILL)

    def _bury(self, child: _Child) -> None:
        """End the group of a dead leader, as a container ends with its first process."""
        child.signal(signal.SIGKILL)
        for _ in range(_LAST_READS):  # a process outside the group may write for ever
            if not self._read(child):
                break
        self._print(child, [child.line] if child.line else [])
        asyncio.get_running_loop().remove_reader(child.output)
        os.close(child.output)
        shutil.rmtree(child.home, ignore_errors=True)
        del self._children[child.instance]

    # Its output

    def _read(self, child: _Child) -> bool:
        """Read the available output. Return True if there was any."""
        try:
            chunk = os.read(child.output, _READ)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(child.output)
            return False
        *lines, child.line = (child.line + chunk).split(b"\n")
        if len(child.line) >= _READ:
            lines.append(child.line)
            child.line = b""
        self._print(child, lines)
        return True

    def _print(self, child: _Child, lines: Iterable[bytes]) -> None:
        # Drop output after the end of the instance or after a reset.
        if child.runs and child.instance in self._simulator.live():
            texts = (line.removesuffix(b"\r").decode(errors="replace") for line in lines)
            self._simulator.print(child.instance.id, *texts)


def _pod(instance: ContainerInstance) -> str:
    """Return a value that changes when an update replaces the container."""
    return instance.log.pod.name.pod


def _free_ports(count: int, taken: Container[int]) -> tuple[int, ...]:
    """Return ports of 127.0.0.1 that are free for TCP and UDP, in random order to avoid collisions."""
    candidates = random.SystemRandom().sample(_PORTS, len(_PORTS))
    free = (number for number in candidates if number not in taken and _is_free(number))
    return tuple(itertools.islice(free, count))


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True
