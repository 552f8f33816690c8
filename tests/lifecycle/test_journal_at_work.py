"""The run's lock: it says that something of a session is in flight, and a sweep respects it at every turn."""

# ruff: noqa: ASYNC220, ASYNC240  (these tests are about files, and nothing else runs in their loops)
from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiofluence import DeployPolicy, InstanceRef, Session, UncertainDeployError, WaitTimeoutError
from aiofluence.lifecycle.journal import Journal
from aiofluence.models.values import Kind
from aiofluence.simulator import Fault, Provisioning, Simulator, VirtualClockLoop

from ..harness import VIRTUAL, container_spec, session_on
from ..journals import entry, events, journal_at, write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tests do not cover Windows' locks")

QUICK = Provisioning(median=20, sigma=0.0)
POLICY = DeployPolicy(settle=20, watch=40)
POST = "POST /gpu/instances/"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


def sweeping(simulator: Simulator, path: Path) -> Session:
    return session_on(simulator, journal=path, deploy=POLICY)


async def opened(path: Path) -> Journal:
    journal = journal_at(path)
    await journal.open()
    return journal


# --- at every turn of the loop ------------------------------------------------------------------------------


class WatchedLoop(VirtualClockLoop):
    """Looks after every turn."""

    look: Callable[[], None] = staticmethod(lambda: None)

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self.look()


async def deployed(fluence: Session, simulator: Simulator) -> None:
    await fluence.deploy_and_wait(container_spec(simulator))


async def only_deployed(fluence: Session, simulator: Simulator) -> None:
    await fluence.containers.deploy(container_spec(simulator))
    await asyncio.sleep(100)


async def ensured(fluence: Session, simulator: Simulator) -> None:
    for _ in range(2):
        await fluence.ensure(container_spec(simulator))
        await asyncio.sleep(100)


async def in_a_block(fluence: Session, simulator: Simulator) -> None:
    async with fluence.running(container_spec(simulator)):
        await asyncio.sleep(100)


async def in_a_launch(fluence: Session, simulator: Simulator) -> None:
    specs = [container_spec(simulator, f"exp-{number}") for number in range(3)]
    async with fluence.launch(specs) as launch:
        await asyncio.sleep(100)  # all are ready, and none was handed over
        async for _ in launch:
            await asyncio.sleep(10)


async def at_once(fluence: Session, simulator: Simulator) -> None:
    await fluence.deploy_all_and_wait([container_spec(simulator, f"exp-{number}") for number in range(3)])


async def cancelled(fluence: Session, simulator: Simulator) -> None:
    with anyio.move_on_after(5):
        await fluence.deploy_and_wait(container_spec(simulator))
    await asyncio.sleep(100)


async def kept(fluence: Session, simulator: Simulator) -> None:
    for number in range(4):
        with anyio.move_on_after(0.005 * number):
            await fluence.deploy_and_wait(container_spec(simulator, f"exp-{number}"), on_failure="keep")
        await asyncio.sleep(100)


async def unclear(fluence: Session, simulator: Simulator) -> None:
    simulator.fail(POST, Fault.reset(), when="after")
    await fluence.deploy_and_wait(container_spec(simulator))
    await asyncio.sleep(100)


async def taken_back(fluence: Session, simulator: Simulator) -> None:
    with pytest.raises(WaitTimeoutError) as caught:
        await fluence.deploy_and_wait(container_spec(simulator), timeout=5, on_failure="keep")
    await asyncio.sleep(1)
    await caught.value.terminate()


USES = (
    *(deployed, only_deployed, ensured, in_a_block, in_a_launch),
    *(at_once, cancelled, kept, unclear, taken_back),
)


@pytest.mark.parametrize("use", USES)
def test_no_open_entry_is_unprotected_at_any_turn(
    use: Callable[[Session, Simulator], Awaitable[None]], path: Path
) -> None:
    """A sweep between two steps of the loop finds no entry that a session still works with."""
    simulator = Simulator(provisioning=QUICK)
    left: list[str] = []
    turns = 0

    async def main() -> None:
        watching = await opened(path)

        def look() -> None:
            nonlocal turns
            turns += 1
            left.extend(f"{intent.name} {intent.state}" for intent in watching.claims.left_behind())

        loop = asyncio.get_running_loop()
        assert isinstance(loop, WatchedLoop)
        async with sweeping(simulator, path) as fluence:
            loop.look = look
            await use(fluence, simulator)
            loop.look = lambda: None
        watching.close()

    with asyncio.Runner(loop_factory=WatchedLoop) as runner:
        runner.run(main())
    assert turns > 10
    assert left == []


async def test_a_sweep_ends_nothing_that_is_in_use(path: Path) -> None:
    """In a block, or ready in a launch whose caller has not taken it yet."""
    simulator = Simulator(provisioning=QUICK)
    specs = [container_spec(simulator, f"exp-{number}") for number in range(2)]
    async with (
        sweeping(simulator, path) as fluence,
        fluence.running(container_spec(simulator, "block")),
        fluence.launch(specs) as launch,
        sweeping(simulator, path) as other,
    ):
        await asyncio.sleep(100)
        report = await other.sweep(dry_run=False)
        assert (report.found, report.unsettled) == ((), ())
        assert len(simulator.live()) == 3
        assert [outcome.instance is not None async for outcome in launch] == [True, True]
    assert {instance.name for instance in simulator.live()} == {"exp-0", "exp-1"}


# --- idle ---------------------------------------------------------------------------------------------------


async def test_what_an_idle_session_left_open_is_swept(path: Path) -> None:
    """Its deploy and its watch saw no LIST: the entry stays open, and nothing of the session is in flight."""
    simulator = Simulator(provisioning=QUICK)
    simulator.fail(POST, Fault.reset(), when="after")
    simulator.fail("GET /gpu/instances/", Fault.status(500), times=None)
    async with sweeping(simulator, path) as idle:
        with pytest.raises(UncertainDeployError) as caught:
            await idle.containers.deploy(container_spec(simulator))
        simulator.clear_faults()
        async with sweeping(simulator, path) as fluence:
            assert (await fluence.sweep()).found == ()  # the session watches for it
        simulator.fail("GET /gpu/instances/", Fault.status(500), times=None)
        await asyncio.sleep(300)
        simulator.clear_faults()
        assert idle.custody.watching == ()
        async with sweeping(simulator, path) as fluence:
            assert [ref.name for ref in (await fluence.sweep(dry_run=False)).ended] == ["exp-1"]
        assert simulator.live() == []
        assert await caught.value.resolve() is None
        await idle.containers.deploy(container_spec(simulator))  # and it works again
        async with sweeping(simulator, path) as fluence:
            assert (await fluence.sweep(dry_run=False)).found == ()
    assert len(simulator.live()) == 1


async def test_a_restarting_service_hides_nothing(path: Path) -> None:
    """One entry has an id and one has none: the sweep polls for the second, and fails meanwhile."""
    simulator = Simulator(provisioning=QUICK)
    idle = journal_at(path)
    await idle.open()
    async with session_on(simulator) as fluence:
        made = await fluence.containers.deploy(container_spec(simulator, "exp-1"))
    idle.identify(idle.intend(made.kind, made.name, None), made)
    idle.intend(Kind.CONTAINER, "exp-2", None)
    async with sweeping(simulator, path) as fluence:
        assert (await fluence.sweep()).found == ()
        idle.be_at_work(False)
        report = asyncio.ensure_future(fluence.sweep(dry_run=False))
        await asyncio.sleep(5)
        simulator.fail("GET /gpu/instances/", Fault.status(502), times=5)
        assert (await report).ended == (made,)
    idle.close()
    assert simulator.live() == []


async def test_a_deploy_inherits_only_older_entries(path: Path) -> None:
    other = await opened(path)
    other.intend(Kind.CONTAINER, "exp-1", None)
    other.be_at_work(False)
    journal = await opened(path)
    assert len(journal.inherited(Kind.CONTAINER, "exp-1")) == 1
    other.be_at_work(True)
    assert journal.inherited(Kind.CONTAINER, "exp-1") == []
    other.intend(Kind.CONTAINER, "exp-2", None)
    other.be_at_work(False)
    assert journal.inherited(Kind.CONTAINER, "exp-2") == []  # this session may have deployed it by then
    assert len(journal.claims.left_behind()) == 2
    journal.close()
    other.close()


# --- two at the same entry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["inherit", "close"])
async def test_a_late_hand_over_stops_a_sweep(end: str, path: Path) -> None:
    """Between a sweep's judgement and its note the run works again, hands over, and is idle again."""
    other, sweeper = await opened(path), await opened(path)
    made = InstanceRef(Kind.CONTAINER, "one", "exp-1")
    intent = other.intend(made.kind, made.name, None)
    other.be_at_work(False)
    (left,) = sweeper.claims.left_behind()
    other.be_at_work(True)
    other.identify(intent, made)
    other.hand_over(made)
    other.be_at_work(False)
    if end == "inherit":
        assert sweeper.inherit(left, made) is None
    else:
        assert not sweeper.close_left(left, "nothing")
    assert sweeper.claims.is_held("one")
    sweeper.close()
    other.close()
    assert events(path) == ["intent", "deployed", "handed over"]


async def test_what_is_at_work_again_is_not_inherited(path: Path) -> None:
    other, sweeper = await opened(path), await opened(path)
    other.intend(Kind.CONTAINER, "exp-1", None)
    other.be_at_work(False)
    (left,) = sweeper.claims.left_behind()
    other.be_at_work(True)
    assert sweeper.inherit(left) is None
    other.be_at_work(False)
    assert sweeper.inherit(left) is not None
    assert other.claims.left_behind() == []
    sweeper.close()
    assert len(other.claims.left_behind()) == 1
    other.close()


async def test_an_instance_adopted_while_ending_stays(path: Path) -> None:
    simulator = Simulator(provisioning=Provisioning(median=200, sigma=0.0))
    async with sweeping(simulator, path) as ending:
        with anyio.move_on_after(5):
            await ending.deploy_and_wait(container_spec(simulator))
        async with sweeping(simulator, path) as adopting:
            kept = await adopting.ensure(container_spec(simulator))
            await asyncio.sleep(400)
        assert ending.custody.ending == ()
    async with sweeping(simulator, path) as fluence:
        assert (await fluence.sweep(dry_run=False)).found == ()
    assert [instance.id for instance in simulator.live()] == [kept.id]
    assert "ended" not in events(path)


async def test_an_adopted_open_entry_can_be_swept(path: Path) -> None:
    """The second run died before its caller had the instance, as the first."""
    simulator = Simulator(provisioning=Provisioning(median=200, sigma=0.0))
    async with sweeping(simulator, path) as ending:
        with anyio.move_on_after(5):
            await ending.deploy_and_wait(container_spec(simulator))
        adopting = sweeping(simulator, path)
        async with adopting:
            waiting = asyncio.ensure_future(adopting.deploy_and_wait(container_spec(simulator), adopt=True))
            await asyncio.sleep(10)
            assert events(path)[-2:] == ["intent", "deployed"]
            await waiting
            assert events(path)[-1] == "handed over"


async def test_a_half_ended_instance_is_swept(path: Path) -> None:
    simulator = Simulator(provisioning=Provisioning(median=200, sigma=0.0))
    async with sweeping(simulator, path) as fluence:
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.deploy_and_wait(container_spec(simulator), timeout=5, on_failure="keep")
        ending = asyncio.ensure_future(caught.value.terminate())
        await asyncio.sleep(5)
        lines = path.read_bytes()  # a kill at this moment leaves these
        await ending
    copy = path.with_name("copy.journal")
    copy.write_bytes(lines)
    reader = await opened(copy)
    assert [intent.name for intent in reader.claims.left_behind()] == ["exp-1"]
    reader.close()


# --- locks --------------------------------------------------------------------------------------------------


async def test_an_unwritten_note_keeps_the_lock(path: Path) -> None:
    journal, reader = await opened(path), await opened(path)
    made = InstanceRef(Kind.CONTAINER, "one", "exp-1")
    journal.identify(journal.intend(made.kind, made.name, None), made)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))  # a full disk
    try:
        journal.hand_over(made)
        journal.be_at_work(False)
        assert reader.claims.left_behind() == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await asyncio.sleep(10)
    assert events(path)[-1] == "handed over"
    assert reader.claims.is_held("one")
    reader.close()
    journal.close()


RUNS = """
import asyncio, sys
import fcntl
if sys.argv[2] == "posix":
    del fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK
from pathlib import Path
from tests.journals import journal_at
from tests.lifecycle.test_journal_file import deploy
path = Path(sys.argv[1])
one, two = journal_at(path), journal_at(path)
asyncio.run(one.open())
asyncio.run(two.open())
deploy(one, "one")
deploy(two, "two", "exp-2")
for line in sys.stdin:
    match line.split():
        case ["rest"]: one.be_at_work(False)
        case ["work"]: one.be_at_work(True)
        case ["unlink"]: Path(f"{path}.lock").unlink()
        case ["note"]: deploy(one, "three", "exp-3")
        case ["close"]: two.close()
        case ["see"]: print([intent.id for intent in two.claims.left_behind()], flush=True)
    if line.strip() != "see":
        print(flush=True)
"""


@pytest.mark.parametrize(
    "locks",
    [
        "posix",
        pytest.param("ofd", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux has them")),
    ],
)
async def test_another_process_sees_who_is_at_work(locks: str, path: Path) -> None:
    """With locks of the open file, and with POSIX locks, which a process shares and loses as a whole."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUNS, str(path), locks],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdin is not None
    assert run.stdout is not None

    def tell(word: str) -> str:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(f"{word}\n")
        run.stdin.flush()
        return run.stdout.readline().strip()

    try:
        tell("work")
        reader = await opened(path)

        def left() -> list[str | None]:
            return [intent.id for intent in reader.claims.left_behind()]

        assert left() == []
        tell("rest")
        assert (left(), tell("see")) == (["one"], "['one']")
        tell("work")
        assert (left(), tell("see")) == ([], "[]")
        tell("rest")
        tell("unlink")
        tell("work")
        tell("see")  # the second session opens the new lock file when it reads or writes
        assert left() == []
        tell("note")
        assert left() == []
        tell("close")
        assert left() == ["two"]
        reader.close()
    finally:
        run.kill()
        run.wait()
        run.stdin.close()
        run.stdout.close()


async def test_an_unknown_run_is_judged_by_its_lock(path: Path) -> None:
    write(path, entry("abc", 1, "intent"), entry("def", 2, "intent", name="exp-2"))
    journal = await opened(path)
    assert [intent.run for intent in journal.claims.left_behind()] == ["abc", "def"]
    journal.close()


async def test_a_deploy_takes_a_dead_run_s_instance(path: Path) -> None:
    """The entry has the id of an instance that no caller received."""
    simulator = Simulator(provisioning=QUICK)
    async with session_on(simulator) as fluence:
        made = await fluence.containers.deploy(container_spec(simulator))
    dead = await opened(path)
    dead.identify(dead.intend(made.kind, made.name, None), made)
    dead.close()
    async with sweeping(simulator, path) as fluence:
        assert (await fluence.containers.deploy(container_spec(simulator))).id == made.id
    assert len(simulator.instances()) == 1


async def test_an_adopted_instance_can_be_ended(path: Path) -> None:
    """The run that handed it over is older than the run that has adopted it since."""
    simulator = Simulator(provisioning=QUICK)
    spec = container_spec(simulator)
    async with sweeping(simulator, path) as first:
        made = await first.ensure(spec)
    async with sweeping(simulator, path) as second:
        async with second.running(spec, adopt=True) as container:
            assert container.id == made.id
    assert simulator.live() == []
