"""`FluenceCluster`: a Dask cluster with its scheduler in this process and its workers in containers.

The cluster decides which workers there should be, and replaces lost workers. `worker` deploys and ends one
container. Dask does the scaling.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import anyio
import attrs
from distributed import Scheduler, Security, SpecCluster, rpc
from distributed.core import Status

from ..config import is_loopback
from ..errors import ConfigError, LifecycleError, SpecError
from ..models.instances import InstanceRef
from ..models.specs import ContainerSpec, unique_name
from ..models.values import Port
from ..session import Session
from ..tail.merged import MergedTail
from .addresses import WORKER_PORT, contact_problems
from .worker import ContainerWorker

log: Final = logging.getLogger("aiofluence")

_COMMAND: Final = "python -c \"import os; exec(os.environ['FLUENCE_WORKER_CODE'])\""
_OURS: Final = {"contact_address", "host", "name", "port", "protocol", "security"}
"""Options of a worker that this package sets, so that `worker_options` cannot."""
_STEADY: Final = 600.0
"""Seconds that a worker must have worked for its loss not to count as a failure."""
_ANSWER_TIMEOUT: Final = 10.0
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class FluenceCluster(SpecCluster):
    """A Dask cluster whose workers are containers. Use it only as `async with`.

    ```python
    async with (
        FluenceCluster(spec, n=8, min_ready=6, contact="tls://203.0.113.9:8786") as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        total = await client.submit(sum, range(100))
    ```

    The block begins as soon as `min_ready` workers have joined. The others join when they are ready. The
    cluster replaces a lost worker, at growing intervals if losses continue. At its end, the block ends all
    workers, even after an error. Containers that are still being provisioned end when the session closes.

    All other methods are Dask's, such as `scale`, `adapt` and `get_logs`.

    Args:
        spec: container of a worker. Its name is the prefix of each worker's name. The image needs Python and
            `distributed`, in the versions of this process. The cluster sets `startup_command` and adds port
            9000.
        n: number of workers at the start.
        min_ready: number of workers that must join before the block begins. The start fails as soon as fewer
            can join. None means all of them.
        session: session that deploys the workers. None creates a session and closes it.
        contact: `tls://host:port` at which containers reach this machine, or a tunnel to it. None works only
            if the service runs on this machine too, as the simulator does.
        security: security of all connections. None creates a certificate for this cluster alone.
        worker_options: options of each `distributed.Worker`: `{"nthreads": 4, "resources": {"GPU": 1}}`.
        scheduler_options: options of the `distributed.Scheduler`. Without `host` and `port`, it listens on
            the port of `contact`. Behind a tunnel, set both.
        timeout: seconds from the deploy of a worker until it must have joined; None for no limit.

    Raises:
        SpecError: the service would refuse the container.
        ConfigError: an argument is invalid, or containers could not reach this machine. Nothing was sent.
        LifecycleError: fewer than `min_ready` workers can join. Its cause is the last error of a worker. All
            workers are ended.
        RuntimeError: the scheduler could not be started.
    """

    def __init__(
        self,
        spec: ContainerSpec,
        n: int = 1,
        *,
        min_ready: int | None = None,
        session: Session | None = None,
        contact: str | None = None,
        security: Security | None = None,
        worker_options: Mapping[str, Any] = _NONE,
        scheduler_options: Mapping[str, Any] = _NONE,
        timeout: float | None = 900.0,
    ) -> None:
        self._fluence = session or Session()
        self._own_session = session is None
        self._stack = AsyncExitStack()
        self._contact = contact
        self._count = n
        self._min_ready = n if min_ready is None else min_ready
        self._timeout = timeout
        self._worker_options = dict(worker_options)
        self._failures = 0
        self._last_error: Exception | None = None
        self._starting = True
        self._news = asyncio.Event()
        self._alive: set[ContainerWorker] = set()
        security = security or Security.temporary()
        protocol = "tls" if security.get_tls_config_for_role("scheduler")["cert"] else "tcp"
        self._worker_security = _in_memory(security)
        self._spec = _completed(spec)
        self._check(protocol)
        super().__init__(
            scheduler={
                "cls": Scheduler,
                "options": {
                    **_listening(contact),
                    "protocol": protocol,
                    "contact_address": contact,
                    "security": security,
                    "dashboard_address": "127.0.0.1:0",
                    "dashboard": False,
                    **scheduler_options,
                },
            },
            worker={"cls": self._make_worker, "options": self._worker_options},
            asynchronous=True,
            security=security,
            name=spec.name,
            shutdown_on_close=False,
        )

    def _check(self, protocol: str) -> None:
        problems = list(contact_problems(self._contact, protocol, self._fluence._runtime.origin))
        if self._count < 0 or not 0 <= self._min_ready <= self._count:
            problems.append(f"min_ready: {self._min_ready} of n={self._count} workers makes no sense")
        if self._timeout is not None and not self._timeout > 0:
            problems.append(f"timeout: {self._timeout!r} is not a number of seconds")
        if ours := sorted(_OURS & self._worker_options.keys()):
            problems.append(f"worker_options: {', '.join(ours)} cannot be chosen")
        try:
            json.dumps(self._worker_options)
        except (TypeError, ValueError) as error:
            problems.append(f"worker_options: must be plain JSON: {error}")
        if problems:
            raise ConfigError("; ".join(problems))

    # Workers

    @property
    def containers(self) -> dict[str, InstanceRef]:
        """The containers of current and joining workers, by the worker's name."""
        return {worker.name: worker.ref for worker in self._alive if worker.ref is not None}

    def tail_logs(self, *, last: int = 100) -> MergedTail:
        """Follow the logs of the current containers: `async for tagged in cluster.tail_logs()`.

        Dask's own `get_logs` has only the lines of its loggers, and only of workers that have joined.

        Args:
            last: number of existing lines per container that come first.

        Raises:
            ConfigError: `last` is below 1.
        """
        return self._fluence.tail_all(self.containers.values(), last=last)

    @property
    def _here(self) -> Scheduler:
        assert isinstance(self.scheduler, Scheduler)
        return self.scheduler

    # Start and close

    async def __aenter__(self) -> Self:
        """Start the scheduler, then the workers, and wait for `min_ready` of them.

        Raises:
            FluenceError: as documented for the class. Nothing is left running.
        """
        try:
            if self._own_session:
                await self._stack.enter_async_context(self._fluence)
            await super().__aenter__()
            self._here.handlers["fluence_contact"] = self._tell_contact
            await self._check_contact()
            self.scale(self._count)
            await self._see_started()
        except BaseException:
            # Dask would clean up only after an Exception, not after a cancellation.
            await self._close()
            raise
        return self

    async def _check_contact(self) -> None:
        """Check that the scheduler answers at the contact address, before a container costs money."""
        address = self._contact or self._here.address
        try:
            args = self.security.get_connection_args("client")
            async with rpc(address, timeout=_ANSWER_TIMEOUT, connection_args=args) as scheduler:
                found = (await scheduler.identity())["id"]
        except OSError as error:
            raise ConfigError(
                f"contact: no scheduler answers at {address}, nor could it answer a container: {error}"
            ) from error
        if found != self._here.id:
            raise ConfigError(f"contact: another scheduler answers at {address}")

    async def _see_started(self) -> None:
        while sum(worker.joined_at is not None for worker in self._alive) < self._min_ready:
            if len(self.worker_spec) < self._min_ready:
                raise LifecycleError(
                    f"{len(self.worker_spec)} of at least {self._min_ready} workers could join; "
                    f"the last that failed: {self._last_error}"
                ) from self._last_error
            self._news.clear()
            await self._news.wait()
        self._starting = False
        self.scale(self._count)  # replaces the workers that have failed meanwhile

    async def _close(self) -> None:
        """End all workers, the scheduler and an own session.

        Raises:
            CustodyError: something may still be running, and billing.
        """
        for worker in self._alive:
            worker.cancel()  # first, so that the session ends the containers in any case
        if self.status == Status.starting:  # after a cancellation, Dask would leave the scheduler running
            self.status = Status.failed
        if (waiting := self._correct_state_waiting) is not None and waiting.cancelled():
            self._correct_state_waiting = None  # Dask would wait for this cancelled future, and stop there
        with anyio.CancelScope(shield=True):  # a cancelled scope would cancel again in each loop iteration
            try:
                await super()._close()
            finally:
                await self._stack.aclose()

    # Changes of workers

    def _new_worker_name(self, worker_number: int) -> str:
        return unique_name(self._spec.name)

    def _make_worker(self, scheduler_address: str, *, name: str, **options: Any) -> ContainerWorker:
        told = {
            "scheduler": scheduler_address,
            "name": name,
            "port": WORKER_PORT,
            "options": options,
            "security": self._worker_security,
        }
        code = files(__package__).joinpath("worker_main.py").read_text(encoding="utf-8")
        variables = {"FLUENCE_WORKER": json.dumps(told), "FLUENCE_WORKER_CODE": code}
        spec = attrs.evolve(self._spec, name=name, environment={**self._spec.environment, **variables})
        worker = ContainerWorker(
            self._fluence,
            self._here,
            spec,
            timeout=self._timeout,
            pause=pause_after(self._failures),
            on_change=self._note_change,
        )
        self._alive.add(worker)
        return worker

    async def _tell_contact(self, name: str) -> str:
        """Answer a worker's question for its contact address outside its container."""
        worker = self.workers[name]
        assert isinstance(worker, ContainerWorker)
        return await asyncio.shield(worker.contact)

    def _update_worker_status(self, op: str, msg: Any) -> None:
        if op == "add":
            for info in msg["workers"].values():
                if (worker := self.workers.get(info["name"])) is not None:
                    worker.note_registered()
        super()._update_worker_status(op, msg)

    def _note_change(self, worker: ContainerWorker) -> None:
        """Note that a worker has joined, or has ended: by itself, scaled down, or lost by Dask."""
        self._news.set()
        if not worker.ended:
            return
        self._alive.discard(worker)
        self.workers.pop(worker.name, None)
        if self.worker_spec.pop(worker.name, None) is None or self.status != Status.running:
            return  # its end was intended
        since = worker.joined_at
        steady = since is not None and asyncio.get_running_loop().time() - since >= _STEADY
        self._failures = 0 if steady else self._failures + 1
        self._last_error = worker.error
        log.warning("%s: worker %s is lost: %s", self.name, worker.name, worker.error or "no connection")
        if not self._starting:
            self.scale(len(self.worker_spec) + 1)


def pause_after(failures: int) -> float:
    """Return the seconds before the next deploy, after that many failures in a row.

    The limit is an hour, the minimum charge of every deploy. So failures never cost more than workers would.
    """
    return 0.0 if failures < 2 else min(3600.0, 15.0 * 2.0 ** min(failures - 2, 8))


def _completed(spec: ContainerSpec) -> ContainerSpec:
    """Return the spec of the workers' containers.

    Raises:
        SpecError: the service would refuse the container.
    """
    problems = []
    if not isinstance(spec, ContainerSpec):
        raise ConfigError("spec: a worker is a container")
    if spec.startup_command is not None:
        problems.append("startup_command: the worker's is ours; put what must be set up into the image")
    expose = spec.expose if Port(WORKER_PORT) in spec.expose else (Port(WORKER_PORT), *spec.expose)
    spec = attrs.evolve(spec, expose=expose, startup_command=_COMMAND)
    problems += spec.problems()
    if problems:
        raise SpecError(problems)
    return spec


def _listening(contact: str | None) -> dict[str, Any]:
    """Return the address on which the scheduler listens by default."""
    parts = urlsplit(contact or "")
    if contact is None or is_loopback(parts.hostname):
        return {"host": "127.0.0.1", "port": parts.port or 0}
    return {"port": parts.port or 0}


def _in_memory(security: Security) -> dict[str, Any]:
    """Return the part of `security` that a worker needs, with file contents in place of file names."""
    tls = security.get_tls_config_for_role("worker")
    texts = {
        key: path if path is None or "\n" in path else Path(path).read_text(encoding="utf-8")
        for key, path in tls.items()
        if key != "ciphers"
    }
    return {
        "tls_ca_file": texts["ca_file"],
        "tls_worker_cert": texts["cert"],
        "tls_worker_key": texts["key"],
        "tls_ciphers": tls["ciphers"],
        "require_encryption": security.require_encryption,
    }
