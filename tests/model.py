"""Random lives of programs that deploy while a service loses answers, is slow, or lies, and their duplicates.

The seed determines a run. `tests/test_model.py` uses a few hundred runs,
`benchmarks/exactly_once.py` thousands. This module asserts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Literal

import attrs

from aiofluence import CustodyError, DeployPolicy, FluenceError, InstanceRef, Session, UncertainDeployError
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Provisioning, Simulator, SimulatorWire, run_virtual

from .harness import FAST, baremetal_spec, container_spec, vm_spec

SETTLE = 30.0
POSTS = {
    "container": "POST /gpu/instances/",
    "vm": "POST /gpu/instances/vms",
    "baremetal": "POST /gpu/instances/baremetal",
}
LOST = (Fault.reset(), Fault.cut(), Fault.hang(), Fault.status(500), Fault.status(502), Fault.status(503))
NAMES = ("exp-1", "exp-2")


@attrs.frozen
class Setting:
    """Common settings of all runs in one line of the table.

    Attributes:
        title: title of the line.
        lag: maximum seconds from a POST until its instance is committed and listed.
        settle: seconds for which the client does not trust an empty list.
        watch: seconds for which the client polls for duplicates.
        crash: the first run is killed at a random moment, and a second one is started.
        adopt: deploys adopt.
        journal: sessions have a journal.
        profile: profile of the simulator.
    """

    title: str
    lag: float = 25.0
    settle: float = SETTLE
    watch: float = 200.0
    crash: bool = False
    adopt: bool = False
    journal: bool = False
    profile: Literal["likely", "kind"] = "likely"


@attrs.frozen
class Result:
    """Result of one run after all delayed effects.

    Attributes:
        twice: names with more than one live instance.
        lost: live instances that no caller was given and no error named.
        harmed: names whose instance was given to a caller and later ended.
        posts: number of POSTs sent.
        duplicates: number of duplicates ended.
        uncertain: deploys that ended in `UncertainDeployError`.
    """

    twice: int
    lost: int
    harmed: int
    posts: int
    duplicates: int
    uncertain: int


@attrs.define
class _Books:
    """Knowledge of the callers."""

    held: dict[str, InstanceRef] = attrs.field(factory=dict)
    doubtful: set[str] = attrs.field(factory=set)
    duplicates: int = 0


def run(setting: Setting, seed: int) -> Result:
    """Run one process, and a second one if the first is killed."""
    rng = Random(f"{setting.title}/{seed}")
    kind = rng.choice(tuple(POSTS))
    simulator = Simulator(
        seed,
        balance=100_000,
        provisioning=Provisioning(median=60, sigma=0.5),
        list_lag=rng.choice((0, 2, 5)),
        profile=setting.profile,
    )
    _script_faults(simulator, POSTS[kind], rng, setting)
    books = _Books()
    with tempfile.TemporaryDirectory() as folder, _quietly():
        journal = Path(folder) / "journal" if setting.journal else None
        death = rng.uniform(0.0, 100.0) if setting.crash else None
        run_virtual(_life(simulator, setting, kind, journal, books, death))
        if death is not None:
            books = _Books(duplicates=books.duplicates)  # the knowledge of a killed process is lost
            run_virtual(_life(simulator, setting, kind, journal, books, None))
    simulator.advance(simulator.now + 3 * setting.lag)
    live = simulator.live()
    ids = {instance.id for instance in live}
    count = {name: sum(instance.name == name for instance in live) for name in NAMES}
    known = {ref.id for ref in books.held.values()}
    return Result(
        twice=sum(number > 1 for number in count.values()),
        lost=sum(instance.id not in known and instance.name not in books.doubtful for instance in live),
        harmed=sum(ref.id not in ids for ref in books.held.values()),
        posts=simulator.count(POSTS[kind]),
        duplicates=books.duplicates,
        uncertain=len(books.doubtful),
    )


def _script_faults(simulator: Simulator, post: str, rng: Random, setting: Setting) -> None:
    for _ in range(rng.randint(1, 4)):
        skip = rng.randint(0, 1)
        match rng.choice(("before", "after", "late", "none")):
            case "before":
                simulator.fail(post, rng.choice(LOST), skip=skip)
            case "after":
                simulator.fail(post, rng.choice(LOST), skip=skip, when="after")
            case "late":
                # The delay from the POST to the commit. The list's own lag is added to it.
                late = rng.uniform(0.0, setting.lag - simulator.list_lag)
                simulator.fail(post, rng.choice(LOST), skip=skip, commit_after=max(0.0, late))
            case _:
                pass
    listing = post.replace("POST", "GET")
    for _ in range(rng.randint(0, 3)):
        simulator.fail(listing, rng.choice((*LOST, Fault.body({}))), skip=rng.randint(0, 10), times=2)


async def _life(
    simulator: Simulator,
    setting: Setting,
    kind: str,
    journal: Path | None,
    books: _Books,
    death: float | None,
) -> None:
    """Run one process: deploy every name, and stay until the session has closed or the process is killed."""
    wire = SimulatorWire(simulator)
    session = Session(
        DEFAULT_API_KEY,
        wire=wire,
        rate=FAST,
        timeout=10,
        journal=journal,
        close_timeout=5000,
        deploy=DeployPolicy(settle=setting.settle, watch=setting.watch),
    )

    async def deploy(fluence: Session, name: str) -> None:
        make: Any = {"container": container_spec, "vm": vm_spec, "baremetal": baremetal_spec}[kind]
        spec = make(simulator, name)
        for _ in range(5):  # as a user who starts a program again
            try:
                books.held[name] = (await fluence.deploy_and_wait(spec, adopt=setting.adopt)).ref
                return
            except UncertainDeployError:
                books.doubtful.add(name)
                return
            except FluenceError:
                pass  # the caller was told that no instance is left

    async def live() -> None:
        try:
            async with session as fluence, asyncio.TaskGroup() as group:
                for name in NAMES:
                    group.create_task(deploy(fluence, name))
        except CustodyError as error:  # with `adopt`, of two late instances each may be another session's
            books.doubtful.update(error.names)

    living = asyncio.ensure_future(live())
    await asyncio.wait([living], timeout=death)
    books.duplicates += len(session.custody.duplicates)
    if not living.done():
        # From here on nothing reaches the service or the disk. Tasks that still run have no effect.
        written = _read(journal)
        await wire.aclose()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([living])
        _write(journal, written)


def _read(journal: Path | None) -> bytes:
    return journal.read_bytes() if journal is not None and journal.exists() else b""


def _write(journal: Path | None, data: bytes) -> None:
    if journal is not None:
        journal.write_bytes(data)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the log and stderr, because dying sessions complain rightly."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
