"""A run that died and is started again: by the journal, by adopting, by sweeping. One instance per name.

A run dies here by losing its wire and its file at one moment; what it had written is what the next one reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import stat
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aiofluence import (
    ConfigError,
    CustodyError,
    DecodeError,
    DeployPolicy,
    InstanceFailedError,
    InsufficientBalanceError,
    NotFoundError,
    Session,
    Until,
)
from aiofluence.simulator import (
    DEFAULT_API_KEY,
    Fault,
    Provisioning,
    Simulator,
    SimulatorWire,
    VirtualClockLoop,
    run_virtual,
)

from ..harness import FAST, THOROUGH, VIRTUAL, baremetal_spec, container_spec, session_on, vm_spec
from ..journals import entry, events, write
from ..programs import Program

KEY = DEFAULT_API_KEY
POST = "POST /gpu/instances/"
QUICK = Provisioning(median=20, sigma=0.0)


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def read(path: Path) -> str:
    return path.read_text()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_what_is_written_and_when(path: Path) -> None:
    simulator = Simulator(provisioning=QUICK)
    written: list[list[str]] = []

    class Watching(SimulatorWire):
        async def send(self, request: Any) -> Any:
            if request.method == "POST":
                written.append(events(path))
            return await super().send(request)

    secret = "s3cret-in-the-environment"
    spec = container_spec(simulator, environment={"TOKEN": secret})
    async with Session(KEY, wire=Watching(simulator), journal=path) as fluence:
        await fluence.deploy_and_wait(spec)
        async with fluence.running(container_spec(simulator, "exp-2")):
            assert events(path) == ["intent", "deployed", "handed over", "intent", "deployed"]
    assert written == [["intent"], ["intent", "deployed", "handed over", "intent"]]
    assert events(path)[-1] == "ended"
    assert mode(path) == 0o600
    text = read(path)
    assert secret not in text
    assert KEY not in text


async def test_a_refusal_leaves_nothing_open(path: Path) -> None:
    simulator = Simulator(provisioning=QUICK)
    simulator.set_balance("0.01")
    async with session_on(simulator, journal=path) as fluence:
        with pytest.raises(InsufficientBalanceError):
            await fluence.deploy_and_wait(container_spec(simulator))
        simulator.set_balance(1000)
        simulator.fail_next_provisioning()
        with pytest.raises(InstanceFailedError):
            await fluence.deploy_and_wait(container_spec(simulator))
    assert events(path) == ["intent", "nothing", "intent", "deployed", "ended"]


async def test_an_unwritable_journal_stops_deploys(path: Path) -> None:
    simulator = Simulator()
    with pytest.raises(ConfigError, match="cannot be opened"):
        async with session_on(simulator, journal=path / "nowhere"):
            pass
    with pytest.raises(ConfigError, match="regular file"):
        async with session_on(simulator, journal="/dev/null"):
            pass
    async with session_on(simulator, journal=path) as fluence:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))  # a disk that is full in mid-line
        try:
            with pytest.raises(ConfigError, match="nothing was deployed"):
                await fluence.containers.deploy(container_spec(simulator))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert simulator.count("POST /gpu/instances/") == 0
        await fluence.containers.deploy(container_spec(simulator))
    torn, *lines = read(path).splitlines()
    assert len(torn) == 40
    assert [json.loads(line)["event"] for line in lines] == ["intent", "deployed", "handed over"]


# --- dying --------------------------------------------------------------------------------------------------


class DyingLoop(VirtualClockLoop):
    """Asks after every turn whether it is time to die."""

    dies: Callable[[], bool] = staticmethod(lambda: False)

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        if self.dies():
            self.stop()


def run_until_death(
    main: Callable[[Session], Awaitable[object]], wire: SimulatorWire, journal: Path, at: int
) -> bool:
    """Run `main` until the journal has `at` bytes, then let nothing more reach the service or the file.

    Gives whether it came to that.
    """
    dead: list[bytes] = []

    def dies() -> bool:
        if not dead and journal.exists() and len(data := journal.read_bytes()) >= at:
            dead.append(data[:at])
            with contextlib.suppress(StopIteration):
                wire.aclose().send(None)  # it awaits nothing
        return bool(dead)

    async def use() -> None:
        policy = DeployPolicy(settle=20, watch=40)
        async with Session(KEY, wire=wire, journal=journal, rate=FAST, deploy=policy) as fluence:
            await main(fluence)

    with asyncio.Runner(loop_factory=DyingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, DyingLoop)
        task = loop.create_task(use())
        task.add_done_callback(lambda _: None if dead else loop.stop())
        loop.dies = dies
        loop.run_forever()
        loop.dies = lambda: False
        if not dead:
            task.result()
        # What it still does is done by a ghost: its wire is closed, and what it writes is taken back below.
    if dead:
        journal.write_bytes(dead[0])
    return bool(dead)


@pytest.mark.parametrize("fault", [None, "after", "before"])
def test_killed_at_every_byte_of_the_journal(fault: Any, path: Path) -> None:
    logging.disable(logging.CRITICAL)  # ghosts complain
    try:
        at = 0
        while _dies_and_runs_again(fault, path, at):
            at += 7 if THOROUGH else 29 if fault is None else 97
    finally:
        logging.disable(logging.NOTSET)
    assert at > 300


def _dies_and_runs_again(fault: Any, path: Path, at: int) -> bool:
    path.unlink(missing_ok=True)
    simulator = Simulator(provisioning=QUICK, list_lag=3)
    if fault:
        simulator.fail(POST, Fault.reset(), when=fault)
    names = ["exp-1", "exp-2"]

    async def main(fluence: Session) -> None:
        for name in names:
            await fluence.deploy_and_wait(container_spec(simulator, name), adopt=True)

    async def again() -> None:
        policy = DeployPolicy(settle=20, watch=40)
        async with session_on(simulator, journal=path, deploy=policy, close_timeout=900) as fluence:
            await main(fluence)

    died = run_until_death(main, SimulatorWire(simulator), path, at)
    run_virtual(again)
    assert sorted(instance.name for instance in simulator.live()) == names, f"died at byte {at}"
    return died


async def test_a_death_after_the_post_is_waited_out(path: Path) -> None:
    """What the first run had asked for is committed 15 s later, when the second has long looked."""
    simulator = Simulator(provisioning=QUICK, list_lag=5)
    line = {"run": "abc", "n": 1, "event": "intent", "origin": "https://api.fluence.dev"}
    write(path, line | {"kind": "container", "name": "exp-1"})
    policy = DeployPolicy(settle=30, watch=60)
    async with session_on(simulator, journal=path, deploy=policy, close_timeout=900) as fluence:

        async def late() -> None:
            await asyncio.sleep(15)
            async with session_on(simulator) as ghost:
                await ghost.containers.post(container_spec(simulator))

        committing = asyncio.ensure_future(late())
        await fluence.deploy_and_wait(container_spec(simulator))
        await committing
    assert len(simulator.instances()) == 1
    assert len(simulator.live()) == 1


async def test_a_second_try_remembers_the_first(path: Path) -> None:
    """The first try ends at its first list; what the dead run asked for comes before the second is sent."""
    simulator = Simulator(provisioning=QUICK)
    line = {"run": "abc", "n": 1, "event": "intent", "origin": "https://api.fluence.dev"}
    write(path, line | {"kind": "container", "name": "exp-1"})
    simulator.fail("GET /gpu/instances/", Fault.body({}))
    policy = DeployPolicy(settle=30, watch=60)
    async with session_on(simulator, journal=path, deploy=policy, close_timeout=900) as fluence:
        with pytest.raises(DecodeError):
            await fluence.ensure(container_spec(simulator))
        trying = asyncio.ensure_future(fluence.ensure(container_spec(simulator)))
        await asyncio.sleep(15)
        assert simulator.count(POST) == 0
        async with session_on(simulator) as ghost:
            late = await ghost.containers.post(container_spec(simulator))
        assert (await trying).id == late.id
    assert len(simulator.instances()) == 1


# --- adopting -----------------------------------------------------------------------------------------------


async def test_a_second_run_takes_over() -> None:
    simulator = Simulator(provisioning=QUICK)
    specs: list[Any] = [
        container_spec(simulator, "same"),
        vm_spec(simulator, "same"),
        baremetal_spec(simulator, "same"),
    ]
    async with session_on(simulator) as fluence:
        first = [await fluence.deploy_and_wait(spec) for spec in specs]
    async with session_on(simulator) as fluence:
        second = [await fluence.deploy_and_wait(spec, adopt=True) for spec in specs]
        assert [one.id for one in first] == [one.id for one in second]
        async with fluence.running(specs[0], adopt=True) as container:
            assert container.id == first[0].id
        assert len(simulator.instances()) == 3
        assert len(simulator.live()) == 2
        third = await fluence.deploy_and_wait(specs[0], adopt=True)
        assert third.id != first[0].id


async def test_ensure_repeats_the_same_instance() -> None:
    simulator = Simulator(provisioning=QUICK, list_lag=4)
    async with session_on(simulator) as fluence:
        refs = await asyncio.gather(*(fluence.ensure(container_spec(simulator)) for _ in range(5)))
        assert len(set(refs)) == 1
    async with session_on(simulator) as fluence:
        container = await fluence.ensure(container_spec(simulator), until=Until.READY)
        assert container.ref == refs[0]
        with pytest.raises(TimeoutError):
            await fluence.ensure(container_spec(simulator, "exp-2"), until=Until.READY, timeout=5)
    assert sorted(instance.name for instance in simulator.live()) == ["exp-1", "exp-2"]  # never ended
    assert simulator.count(POST) == 2


@pytest.mark.parametrize("lag", [0.0, 7.0])
@pytest.mark.parametrize("apart", [0.0, 0.01, 0.5, 3.0])
@pytest.mark.parametrize("fault", [None, "before", "after"])
async def test_two_sessions_that_adopt_share_one(lag: float, apart: float, fault: Any) -> None:
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.3), list_lag=lag)
    if fault:
        simulator.fail(POST, Fault.reset(), when=fault)

    async def use(delay: float) -> str:
        await asyncio.sleep(delay)
        async with session_on(simulator, close_timeout=900) as fluence:
            return (await fluence.deploy_and_wait(container_spec(simulator), adopt=True)).id

    ids = await asyncio.gather(use(0), use(apart))
    assert len(set(ids)) == 1
    assert [instance.id for instance in simulator.live()] == [ids[0]]


async def test_an_ending_instance_is_not_adopted() -> None:
    simulator = Simulator(provisioning=QUICK)
    async with session_on(simulator) as fluence:
        with pytest.raises(TimeoutError):
            await fluence.deploy_and_wait(container_spec(simulator), timeout=5)
        (ending,) = fluence.custody.ending
        container = await fluence.deploy_and_wait(container_spec(simulator), adopt=True)
        assert container.id != ending.id
    assert [instance.id for instance in simulator.live()] == [container.id]


# --- sweeping -----------------------------------------------------------------------------------------------


async def test_a_sweep_never_means_everything() -> None:
    wrong: tuple[Any, ...] = (-1, float("nan"), 1e300, timedelta(seconds=-1))
    simulator = Simulator(provisioning=QUICK)
    async with session_on(simulator) as fluence:
        await fluence.containers.deploy(container_spec(simulator))
    async with session_on(simulator) as fluence:
        assert (await fluence.sweep(older_than=timedelta.max, dry_run=False)).found == ()
        assert len((await fluence.sweep(older_than=timedelta(0))).found) == 1
        for arguments in [{}, {"prefix": ""}, *({"older_than": age} for age in wrong)]:
            with pytest.raises(ConfigError):
                await fluence.sweep(**arguments)


async def test_sweeping_by_prefix_and_age() -> None:
    simulator = Simulator(provisioning=QUICK)
    async with session_on(simulator) as fluence:
        for name in ("ci-1", "ci-2", "prod-1"):
            await fluence.deploy_and_wait(container_spec(simulator, name))
        await fluence.deploy_and_wait(vm_spec(simulator, "ci-vm"))
        await asyncio.sleep(3600)
    async with session_on(simulator) as fluence:
        await fluence.containers.deploy(container_spec(simulator, "ci-3"))
    async with session_on(simulator) as fluence:
        mine = await fluence.containers.deploy(container_spec(simulator, "ci-mine"))
        report = await fluence.sweep(prefix="ci-", older_than=timedelta(minutes=30))
        assert sorted(ref.name for ref in report.found) == ["ci-1", "ci-2", "ci-vm"]
        assert (report.ended, report.left) == ((), report.found)
        assert len(simulator.live()) == 6  # it only told
        report = await fluence.sweep(prefix="ci-", older_than=1800, dry_run=False)
        assert len(report.ended) == 3
        report = await fluence.sweep(prefix="ci-", dry_run=False)  # one is not active yet: it is waited for
        assert [ref.name for ref in report.ended] == ["ci-3"]
        assert report.left == ()
    assert {instance.name for instance in simulator.live()} == {"prod-1", mine.name}


@pytest.mark.parametrize("at", [30, 150, 200, 260, 300, 400])
def test_sweeping_what_a_dead_run_left(at: int, path: Path) -> None:
    simulator = Simulator(provisioning=QUICK, list_lag=3)

    async def main(fluence: Session) -> None:
        await fluence.deploy_and_wait(container_spec(simulator, "kept"))
        async with fluence.running(container_spec(simulator, "lost")):
            await asyncio.sleep(5)

    async def sweep() -> None:
        policy = DeployPolicy(settle=20)
        async with session_on(simulator, journal=path, deploy=policy) as fluence:
            await fluence.sweep(dry_run=False)
            again = await fluence.sweep()
            assert again.found == ()
            assert again.unsettled == ()

    logging.disable(logging.CRITICAL)
    try:
        assert run_until_death(main, SimulatorWire(simulator), path, at)
    finally:
        logging.disable(logging.NOTSET)
    kept = '"handed over"}' in path.read_text()
    run_virtual(sweep)
    assert [instance.name for instance in simulator.live()] == (["kept"] if kept else [])


async def test_what_cannot_be_ended_is_reported() -> None:
    simulator = Simulator(provisioning=QUICK)
    async with session_on(simulator) as fluence:
        await fluence.deploy_and_wait(container_spec(simulator))
    with pytest.raises(CustodyError):
        async with session_on(simulator) as fluence:
            simulator.fail("DELETE /gpu/instances/{id}", Fault.status(403), times=None)
            report = await fluence.sweep(prefix="exp", dry_run=False)
            assert report.left == report.found
            assert report.ended == ()


async def test_a_failed_sweep_leaves_its_entry(path: Path) -> None:
    """Though the dead run never learnt the id of what it had made."""
    simulator = Simulator(provisioning=QUICK)
    async with session_on(simulator) as fluence:
        await fluence.deploy_and_wait(container_spec(simulator))
    intent = {"run": "1", "n": 1, "event": "intent", "kind": "container", "name": "exp-1"}
    write(path, intent | {"origin": "https://api.fluence.dev"})
    with pytest.raises(CustodyError):
        async with session_on(simulator, journal=path) as fluence:
            simulator.fail("DELETE /gpu/instances/{id}", Fault.status(403), times=None)
            report = await fluence.sweep(dry_run=False)
            assert report.left == report.found
    simulator.clear_faults()
    async with session_on(simulator, journal=path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert len(report.ended) == 1
    assert simulator.live() == []


async def test_ids_that_are_gone_for_good_are_settled(path: Path) -> None:
    simulator = Simulator(provisioning=QUICK)
    lines = [
        entry("abc", 1, "intent"),
        entry("abc", 1, "deployed", id="unknown-id"),
        entry("abc", 2, "intent", origin="https://elsewhere.example"),
        entry("abc", 3, "intent", kind="mainframe"),
        entry("../../x", 4, "intent"),
        entry("abc", 5, "deployed", id="x"),
        ["not", "an", "entry"],
    ]
    write(path, *lines, torn='{"run": "abc", "n": 6, "ev')
    async with session_on(simulator, journal=path) as fluence:
        with pytest.raises(NotFoundError):
            await fluence.containers.get("unknown-id")
        report = await fluence.sweep()
        assert (report.found, report.unsettled, report.foreign) == ((), ("exp-1",), 1)
        report = await fluence.sweep(dry_run=False)
        assert [ref.id for ref in report.ended] == ["unknown-id"]
        assert report.unsettled == ()
        report = await fluence.sweep()
        assert (report.found, report.unsettled, report.foreign) == ((), (), 1)
        await fluence.containers.deploy(container_spec(simulator))
    async with session_on(simulator, journal=path) as fluence:
        assert (await fluence.sweep()).found == ()  # the torn line has hurt no other
    assert len(simulator.live()) == 1


async def test_an_end_that_lists_prove_is_noted(path: Path) -> None:
    """The service has never shown the instance: its GET is a 404, and every LIST lacks it."""
    simulator = Simulator(provisioning=QUICK)
    simulator.fail("GET /gpu/instances/{id}", Fault.status(404), times=None)
    simulator.fail("GET /gpu/instances/", Fault.body([]), times=None)
    async with session_on(simulator, journal=path) as fluence:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await fluence.deploy_and_wait(container_spec(simulator))
    # The second "deployed": taken back from the caller.
    assert events(path) == ["intent", "deployed", "deployed", "ended"]


APPEND = """
import asyncio, sys
from aiofluence.lifecycle.journal import Journal
from aiofluence import InstanceRef
from aiofluence.models.values import Kind
journal = Journal(sys.argv[1], "https://api.fluence.dev", sys.argv[3])
asyncio.run(journal.open())
print("open", flush=True)
sys.stdin.readline()
for number in range(200):
    intent = journal.intend(Kind.CONTAINER, f"{sys.argv[2]}-{number}", None)
    journal.identify(intent, InstanceRef(Kind.CONTAINER, f"{sys.argv[2]}-{number}", "x"))
print("written", flush=True)
sys.stdin.readline()
"""


def test_processes_see_each_others_locks(path: Path) -> None:
    simulator = Simulator()

    async def sweep() -> int:
        async with session_on(simulator, journal=path) as fluence:
            report = await fluence.sweep()
            assert report.found == ()  # the service has never heard of them
            return len(report.unsettled)

    children = [Program(APPEND, str(path), name, KEY) for name in "abc"]
    try:
        for said in ("open", "written"):
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == f"{said}\n"
            if said == "open":
                for child in children:
                    assert child.stdin is not None
                    child.stdin.write("go\n")
                    child.stdin.flush()
        assert len(events(path)) == 3 * 400  # every line is whole
        assert run_virtual(sweep) == 0  # their runs are alive
        children[0].kill()
        children[0].wait()
        assert run_virtual(sweep) == 200
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert run_virtual(sweep) == 600
