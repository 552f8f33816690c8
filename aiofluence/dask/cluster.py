"""`FluenceCluster`: a Dask cluster with its scheduler here and its workers in containers of the fleet.

Says which workers there should be, and replaces those that are lost; what becomes of one is `worker`'s
business, scaling and adapting are Dask's.
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

from ..errors import ConfigError, LifecycleError, SpecError
from ..models.instances import InstanceRef
from ..models.specs import ContainerSpec, unique_name
from ..models.values import Port
from ..session import Session
from ..tail.merged import MergedTail
from .addresses import WORKER_PORT, contact_problems, is_loopback
from .worker import ContainerWorker

log: Final = logging.getLogger("aiofluence")

_COMMAND: Final = "python -c \"import os; exec(os.environ['FLUENCE_WORKER_CODE'])\""
_OURS: Final = {"contact_address", "host", "name", "port", "protocol", "security"}
"""What `inside` says of a worker itself."""
_STEADY: Final = 600.0
"""Seconds for which a worker must have been there for its loss not to count as a failure."""
_ANSWER_TIMEOUT: Final = 10.0
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class FluenceCluster(SpecCluster):
    """A Dask cluster whose workers are containers. Use it as `async with`, and only so.

    ```python
    async with (
        FluenceCluster(spec, n=8, min_ready=6, contact="tls://203.0.113.9:8786") as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        total = await client.submit(sum, range(100))
    ```

    The block begins as soon as `min_ready` workers can compute; the others join when they are ready. A worker
    that is lost is replaced, at growing intervals when that keeps happening. Behind the block everything is
    given back, however it ends; what is still being provisioned then goes when the session closes.

    `scale`, `adapt`, `get_logs` and all else are Dask's.

    Args:
        spec: a worker's container. Its name is the beginning of each worker's; the image needs Python and
            `distributed`, in the versions that run here. `startup_command` is ours, and port 9000 is added.
        n: workers to begin with.
        min_ready: how many must have joined for the block to begin; as soon as fewer can, the start fails.
            None is all of them.
        session: None makes one, and closes it.
        contact: `tls://host:port` at which containers reach this machine, or a tunnel to it. None is right
            only where the service is on this machine, too: the simulator.
        security: of all connections. None makes a certificate for this cluster alone.
        worker_options: of each `distributed.Worker`, such as `{"nthreads": 4, "resources": {"GPU": 1}}`.
        scheduler_options: of the `distributed.Scheduler`. Without `host` and `port` it listens on the port of
            `contact`; behind a tunnel, give both.
        timeout: seconds a worker may take from its deploy until it has joined; None is for ever.

    Raises:
        SpecError: the service would refuse the container.
        ConfigError: an argument makes no sense, or containers could not reach us; nothing was sent.
        LifecycleError: fewer than `min_ready` workers can join; its cause is the last that failed. All of it
            is given back.
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

    # What there is

    @property
    def containers(self) -> dict[str, InstanceRef]:
        """The containers that are workers, or are about to be, by the worker's name."""
        return {worker.name: worker.ref for worker in self._alive if worker.ref is not None}

    def tail_logs(self, *, last: int = 100) -> MergedTail:
        """`async for tagged in cluster.tail_logs()`: what the containers of this moment print, as it comes.

        Dask's own `get_logs` has the lines of its loggers alone, and of workers that have joined.

        Args:
            last: how many of the lines that are there already come first, of each.

        Raises:
            ConfigError: `last` is below 1.
        """
        return self._fluence.tail_all(self.containers.values(), last=last)

    @property
    def _here(self) -> Scheduler:
        assert isinstance(self.scheduler, Scheduler)
        return self.scheduler

    # Beginning and end

    async def __aenter__(self) -> Self:
        """Start the scheduler, then the workers, and wait for `min_ready` of them.

        Raises:
            FluenceError: as the class says; nothing is left behind.
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
            # Dask would take down only what an Exception broke off, and not what was cancelled.
            await self._close()
            raise
        return self

    async def _check_contact(self) -> None:
        """A container costs money before it could find out that nobody answers there."""
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
        self.scale(self._count)  # those that have failed meanwhile

    async def _close(self) -> None:
        """Give everything back.

        Raises:
            CustodyError: something may still be running, and billing.
        """
        for worker in self._alive:
            worker.cancel()  # first of all: from here on the session sees to it
        if self.status == Status.starting:  # cancelled in the middle; Dask would leave the scheduler running
            self.status = Status.failed
        if (waiting := self._correct_state_waiting) is not None and waiting.cancelled():
            self._correct_state_waiting = None  # cancelled with us; Dask would wait for it, and stop there
        with anyio.CancelScope(shield=True):  # a cancelled scope would cancel again in every turn of the loop
            try:
                await super()._close()
            finally:
                await self._stack.aclose()

    # Its workers

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
        """What a worker in its container asks: where it is reached from outside."""
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
        """A worker has joined, or has ended: by itself, scaled down, or because Dask has lost it."""
        self._news.set()
        if not worker.ended:
            return
        self._alive.discard(worker)
        self.workers.pop(worker.name, None)
        if self.worker_spec.pop(worker.name, None) is None or self.status != Status.running:
            return  # it was to go
        since = worker.joined_at
        steady = since is not None and asyncio.get_running_loop().time() - since >= _STEADY
        self._failures = 0 if steady else self._failures + 1
        self._last_error = worker.error
        log.warning("%s: worker %s is lost: %s", self.name, worker.name, worker.error or "no connection")
        if not self._starting:
            self.scale(len(self.worker_spec) + 1)


def pause_after(failures: int) -> float:
    """Seconds before the next deploy, after so many failures in a row.

    At last an hour, which is what every deploy is charged for: failures then cost no more than workers would.
    """
    return 0.0 if failures < 2 else min(3600.0, 15.0 * 2.0 ** min(failures - 2, 8))


def _completed(spec: ContainerSpec) -> ContainerSpec:
    """The container that workers are made of.

    Raises:
        SpecError: it cannot be.
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
    """Where the scheduler listens when nobody says."""
    parts = urlsplit(contact or "")
    if contact is None or is_loopback(parts.hostname):
        return {"host": "127.0.0.1", "port": parts.port or 0}
    return {"port": parts.port or 0}


def _in_memory(security: Security) -> dict[str, Any]:
    """What a worker needs of `security`, with the texts of files in place of their names."""
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
