"""Sweeps when parts fail, and whose an instance is: what is not proven is reported, and lives."""

# ruff: noqa: ASYNC240
from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiofluence import (
    AuthError,
    ConfigError,
    CustodyError,
    DeployPolicy,
    FluenceError,
    InstanceRef,
    Session,
)
from aiofluence.http.messages import Reply, Request
from aiofluence.models.values import Kind
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Provisioning, Simulator, SimulatorWire
from aiofluence.simulator.simulator import DEFAULT_START

from ..harness import FAST, VIRTUAL, container_spec, session_on, vm_spec
from ..journals import ORIGIN, entry, journal_at, write

QUICK = Provisioning(median=20, sigma=0.0)
POLICY = DeployPolicy(settle=30, watch=0)


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(provisioning=QUICK)


async def made(simulator: Simulator, *names: str) -> list[str]:
    """Ids of containers of another program, which keeps no journal."""
    async with session_on(simulator) as fluence:
        return [(await fluence.containers.deploy(container_spec(simulator, name))).id for name in names]


def since(seconds: float = 0.0) -> str:
    """The simulator's time so many seconds after it began."""
    return (DEFAULT_START + timedelta(seconds=seconds)).isoformat()


def sweeping(simulator: Simulator, path: Path, **options: Any) -> Session:
    return session_on(simulator, journal=path, deploy=POLICY, **options)


class Altered(SimulatorWire):
    """The simulator, whose LISTs of containers are altered on their way."""

    def __init__(self, simulator: Simulator, *more: object, headers: dict[str, str] | None = None) -> None:
        super().__init__(simulator)
        self._more = more
        self._headers = headers or {}

    async def send(self, request: Request) -> Reply:
        reply = await super().send(request)
        if (request.method, request.path) != ("GET", "/gpu/instances/"):
            return reply
        rows = [*self._more, *json.loads(reply.body)]
        return Reply(reply.status, {**reply.headers, **self._headers}, json.dumps(rows).encode())


# --- parts that fail ----------------------------------------------------------------------------------------


async def test_a_forbidden_kind_stops_no_other(simulator: Simulator) -> None:
    await made(simulator, "ci-1", "ci-2")
    simulator.fail("GET /gpu/instances/baremetal", Fault.status(403, {"error": "no"}), times=None)
    async with session_on(simulator, deploy=POLICY) as fluence:
        report = await fluence.sweep(prefix="ci-")
        assert len(report.found) == 2
        report = await fluence.sweep(prefix="ci-", dry_run=False)
    assert len(report.ended) == 2
    assert [(kind, type(error)) for kind, error in report.failed.items()] == [(Kind.BAREMETAL, AuthError)]
    assert simulator.live() == []


async def test_a_sweep_without_any_list_fails(simulator: Simulator) -> None:
    await made(simulator, "ci-1")
    for path in ("", "vms", "baremetal"):
        simulator.fail(f"GET /gpu/instances/{path}", Fault.status(500), times=None)
    async with session_on(simulator, deploy=POLICY) as fluence:
        with pytest.raises(FluenceError):
            await fluence.sweep(prefix="ci-", dry_run=False)
    assert len(simulator.live()) == 1


async def test_a_failing_list_is_repeated(simulator: Simulator, path: Path) -> None:
    """The service restarts while a sweep waits for what a dead run was deploying."""
    (id,) = await made(simulator, "exp-1")
    write(
        path,
        entry("abc", 1, "intent"),
        entry("abc", 1, "deployed", id=id),
        entry("abc", 2, "intent", name="exp-2"),
    )

    class Restarting(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            if 8 < asyncio.get_running_loop().time() - began < 22:
                return Reply(502)
            return await super().send(request)

    began = asyncio.get_running_loop().time()
    wire = Restarting(simulator)
    async with Session(DEFAULT_API_KEY, wire=wire, journal=path, rate=FAST, deploy=POLICY) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert ([ref.id for ref in report.ended], report.unsettled, report.failed) == ([id], ("exp-2",), {})
        assert (await fluence.sweep()).unsettled == ()
    assert simulator.live() == []


@pytest.mark.parametrize(
    ("age", "seconds"),
    [(timedelta(days=1), 0), (timedelta(minutes=20), 0), (timedelta(minutes=10), 30), (None, 30)],
    ids=str,
)
@pytest.mark.parametrize("id", ["gone", None])
async def test_only_a_young_entry_is_waited_for(
    age: timedelta | None, seconds: float, id: str | None, simulator: Simulator, path: Path
) -> None:
    """A POST of yesterday has settled: one whole LIST decides. One without a time may be young."""
    dated = {} if age is None else {"since": (DEFAULT_START - age).isoformat()}
    lines = [entry("abc", 1, "intent", **dated)]
    if id is not None:
        lines.append(entry("abc", 1, "deployed", id=id))
    write(path, *lines)
    loop = asyncio.get_running_loop()
    async with sweeping(simulator, path) as fluence:
        began = loop.time()
        report = await fluence.sweep(dry_run=False)
        assert loop.time() - began == pytest.approx(seconds, abs=1)
        assert (len(report.ended), report.unsettled) == ((1, ()) if id else (0, ("exp-1",)))
        assert (await fluence.sweep()).unsettled == ()


async def test_a_partial_list_decides_no_entry(simulator: Simulator, path: Path) -> None:
    since = (DEFAULT_START - timedelta(days=1)).isoformat()
    write(path, entry("abc", 1, "intent", since=since), entry("abc", 1, "deployed", id="gone"))
    wire = Altered(simulator, headers={"Link": '</gpu/instances/?page=2>; rel="next"'})
    loop = asyncio.get_running_loop()
    async with Session(DEFAULT_API_KEY, wire=wire, journal=path, rate=FAST, deploy=POLICY) as fluence:
        began = loop.time()
        report = await fluence.sweep(dry_run=False)
        assert (report.ended, report.unsettled) == ((), ("exp-1",))
        assert loop.time() - began == pytest.approx(POLICY.settle, abs=4)


async def test_an_instance_never_seen_gone_is_named(simulator: Simulator, path: Path) -> None:
    """Its status is a new word for the end, and its DELETE is refused for that: nothing proves it over."""
    (id,) = await made(simulator, "exp-1")
    write(path, entry("abc", 1, "intent"), entry("abc", 1, "deployed", id=id))
    simulator.fail("DELETE /gpu/instances/{id}", Fault.status(400, {"detail": "Only ACTIVE"}), times=None)
    with pytest.raises(CustodyError) as caught:
        async with sweeping(simulator, path, close_timeout=60) as fluence:
            async with asyncio.timeout(3600):
                report = await fluence.sweep(dry_run=False)
            assert ([ref.id for ref in report.left], report.ended) == ([id], ())
    assert [ref.id for ref in caught.value.refs] == [id]
    simulator.clear_faults()
    async with sweeping(simulator, path) as fluence:
        assert len((await fluence.sweep(dry_run=False)).ended) == 1


ODD_ROWS = [
    {"id": "x", "name": "old", "instance_status": "ENDED", "resources": None, "created_at": None},
    {"id": "x", "name": None, "instance_status": "ENDED"},
    {"id": "../x", "name": "ci-3", "instance_status": "ACTIVE", "created_at": "2025-01-01T00:00:00Z"},
    {"id": "x", "name": "old", "instance_status": "ENDED", "created_at": "0001-01-01T00:00:00+05:00"},
    {"id": 5},
    None,
    "a row",
]


@pytest.mark.parametrize("odd", ODD_ROWS, ids=repr)
async def test_an_odd_row_proves_nothing(odd: object, simulator: Simulator, path: Path) -> None:
    await made(simulator, "ci-1", "ci-2")
    write(path, entry("abc", 1, "intent", since=since()))
    wire = Altered(simulator, odd)
    async with Session(DEFAULT_API_KEY, wire=wire, journal=path, rate=FAST, deploy=POLICY) as fluence:
        report = await fluence.sweep(prefix="ci-", dry_run=False)
        assert len(report.ended) == 2
        assert (report.unreadable, report.unsettled) == (1, ("exp-1",))
    assert simulator.live() == []
    journal = journal_at(path)
    await journal.open()
    assert len(journal.claims.left_behind()) == 1  # it may be that row
    journal.close()


async def test_an_unused_odd_field_hides_no_row(simulator: Simulator) -> None:
    await made(simulator, "ci-1")

    class NoResources(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            reply = await super().send(request)
            return Reply(reply.status, reply.headers, reply.body.replace(b'"resources"', b'"resource"'))

    async with Session(DEFAULT_API_KEY, wire=NoResources(simulator), rate=FAST, deploy=POLICY) as fluence:
        report = await fluence.sweep(prefix="ci-")
    assert ([ref.name for ref in report.found], report.unreadable) == (["ci-1"], 0)


async def test_one_page_of_several_proves_nothing(simulator: Simulator, path: Path) -> None:
    write(path, entry("abc", 1, "intent"), entry("abc", 1, "deployed", id="gone"), entry("abc", 2, "intent"))
    wire = Altered(simulator, headers={"Link": '</gpu/instances/?page=2>; rel="next"'})
    async with Session(DEFAULT_API_KEY, wire=wire, journal=path, rate=FAST, deploy=POLICY) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert (report.ended, report.unsettled) == ((), ("exp-1", "exp-1"))
    async with sweeping(simulator, path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert ([ref.id for ref in report.ended], report.unsettled) == (["gone"], ("exp-1",))


async def test_a_list_may_be_null(simulator: Simulator) -> None:
    class Null(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            reply = await super().send(request)
            return Reply(reply.status, reply.headers, b"null")

    async with Session(DEFAULT_API_KEY, wire=Null(simulator), rate=FAST, deploy=POLICY) as fluence:
        report = await fluence.sweep(prefix="ci-")
    assert (report.found, report.failed, report.unreadable) == ((), {}, 0)


async def test_only_what_was_shown_is_ended(simulator: Simulator) -> None:
    await made(simulator, "ci-1", "ci-2")
    async with session_on(simulator) as fluence:
        shown = (await fluence.sweep(prefix="ci-")).found
        later = await made(simulator, "ci-3")
        report = await fluence.sweep(prefix="ci-", dry_run=False, only=shown)
        assert set(report.ended) == set(shown)
    assert [instance.id for instance in simulator.live()] == later


# --- whose it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "intent",
    [
        entry("abc", 1, "intent", name="exp-1"),  # another name
        entry("abc", 1, "intent", name="production", kind="vm"),
        entry("abc", 1, "intent", name="production", since=since(3600)),  # older than the intent
        entry("abc", 1, "intent", name="production", since="2030-01-01T00:00:00+00:00"),
    ],
    ids=["name", "kind", "an hour older", "years older"],
)
async def test_a_row_that_does_not_fit_stays(
    intent: dict[str, Any], simulator: Simulator, path: Path
) -> None:
    (id,) = await made(simulator, "production")
    write(path, intent, entry("abc", 1, "deployed", id=id))
    for _ in range(2):  # and it is not forgotten
        async with sweeping(simulator, path) as fluence:
            report = await fluence.sweep(dry_run=False)
            assert (report.found, report.unsettled) == ((), (intent["name"],))
    assert len(simulator.live()) == 1


@pytest.mark.parametrize(
    ("seconds", "is_ended", "is_settled"),
    [(0, True, True), (120, False, False), (24 * 3600, False, False)],
)
async def test_a_row_that_seems_older_stays_open(
    seconds: float, is_ended: bool, is_settled: bool, simulator: Simulator, path: Path
) -> None:
    await made(simulator, "exp-1")
    write(path, entry("abc", 1, "intent", since=since(seconds)))
    async with sweeping(simulator, path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert (len(report.ended), report.unsettled == ()) == (is_ended, is_settled)
        assert ((await fluence.sweep()).unsettled == ()) == is_settled
    assert len(simulator.live()) == (0 if is_ended else 1)


async def test_of_more_rows_than_posts_none_is_ended(simulator: Simulator, path: Path) -> None:
    """One POST makes one instance, so one of two is another program's."""
    await made(simulator, "exp-1", "exp-1")
    write(path, entry("abc", 1, "intent", since=since()))
    async with sweeping(simulator, path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert (report.found, report.unsettled) == ((), ("exp-1",))
        assert len(simulator.live()) == 2
    write(path, entry("abc", 1, "intent", since=since()), entry("abc", 2, "intent", since=since()))
    async with sweeping(simulator, path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert (len(report.ended), report.unsettled) == (2, ())
    assert simulator.live() == []


async def test_an_instance_answers_one_entry(simulator: Simulator, path: Path) -> None:
    """The first POST was lost and commits late, the second one's id is known: both are ended."""
    (id,) = await made(simulator, "exp-1")
    second = (entry("abc", 2, "intent", since=since()), entry("abc", 2, "deployed", id=id))
    write(path, entry("abc", 1, "intent", since=since()), *second)
    async with sweeping(simulator, path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert ([ref.id for ref in report.ended], report.unsettled) == ([id], ("exp-1",))


@pytest.mark.parametrize("event", ["deployed", "handed over"])
async def test_a_later_entry_protects_its_instance(event: str, simulator: Simulator, path: Path) -> None:
    """A died with an id, or without; B, which lives or has handed it over, has the same instance."""
    (id,) = await made(simulator, "exp-1")
    write(path, entry("abc", 1, "intent"), entry("abc", 2, "intent"), entry("abc", 2, "deployed", id=id))
    living = journal_at(path)
    await living.open()
    intent = living.intend(Kind.CONTAINER, "exp-1", None)
    (row,) = simulator.live()
    living.identify(intent, ref := InstanceRef(Kind.CONTAINER, row.id, "exp-1"))
    if event == "handed over":
        living.hand_over(ref)
        living.close()
    async with sweeping(simulator, path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert report.ended == report.found == ()
    assert len(simulator.live()) == 1
    living.close()


async def test_a_deploy_in_flight_protects_its_name(simulator: Simulator, path: Path) -> None:
    """The answer to its POST is on its way, so no entry names the id yet."""
    await made(simulator, "exp-1")
    write(path, entry("abc", 1, "intent", since=since()))
    living = journal_at(path)
    await living.open()
    living.intend(Kind.CONTAINER, "exp-1", datetime.fromisoformat(since()))
    async with sweeping(simulator, path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert (report.found, report.unsettled) == ((), ("exp-1",))
    assert len(simulator.live()) == 1
    living.close()
    async with sweeping(simulator, path) as fluence:
        assert len((await fluence.sweep(dry_run=False)).ended) == 1


@pytest.mark.parametrize(
    ("line", "is_ended"),
    [
        ('{"run": "abc", "n": 1, "event": "handed over", "id": "\\x00\ufffd"!}', False),
        ('{"run": "abc", "n": 1, "event": "h\ufffdnded over"}', False),
        ('{"run": "abc", "n": 1, "event": "of a later version"}', False),
        ('{"run": "abc", "n": 1, "event": "handed ov', True),  # cut off by the crash: not handed over
        ('{"run": "abc", "n": 1, "event": "deployed", "\ufffd"}', True),
    ],
)
async def test_an_illegible_line_may_be_a_hand_over(
    line: str, is_ended: bool, simulator: Simulator, path: Path
) -> None:
    (id,) = await made(simulator, "exp-1")
    write(path, entry("abc", 1, "intent"), entry("abc", 1, "deployed", id=id), torn=line)
    async with sweeping(simulator, path) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert (len(report.ended), report.unsettled) == ((1, ()) if is_ended else (0, ("exp-1",)))
    assert len(simulator.live()) == (not is_ended)


async def test_entries_without_account_need_a_row(simulator: Simulator, path: Path) -> None:
    (id,) = await made(simulator, "exp-1")
    old = {"run": "abc", "event": "intent", "kind": "container", "name": "exp-1", "origin": ORIGIN}
    write(
        path,
        *(old | {"n": 1}, {"run": "abc", "n": 1, "event": "deployed", "id": id}),
        *(old | {"n": 2}, {"run": "abc", "n": 2, "event": "deployed", "id": "elsewhere"}),
        old | {"n": 3, "name": "exp-3"},
    )
    for ended in ([id], []):
        async with sweeping(simulator, path) as fluence:
            report = await fluence.sweep(dry_run=False)
            assert [ref.id for ref in report.ended] == ended
            assert sorted(report.unsettled) == ["exp-1", "exp-3"]
    assert simulator.live() == []


async def test_another_accounts_sweep_hides_nothing(path: Path) -> None:
    one, two = Simulator(1, api_key="key-one"), Simulator(2, api_key="key-two")
    journal = journal_at(path, "key-one")
    await journal.open()
    async with Session("key-one", wire=SimulatorWire(one), rate=FAST) as fluence:
        made = await fluence.containers.deploy(container_spec(one))
    journal.identify(journal.intend(made.kind, made.name, None), made)
    journal.intend(Kind.VM, "vm-1", None)
    journal.close()
    async with Session("key-two", wire=SimulatorWire(two), journal=path, deploy=POLICY) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert (report.found, report.unsettled, report.foreign) == ((), (), 2)
    async with Session("key-one", wire=SimulatorWire(one), journal=path, deploy=POLICY) as fluence:
        report = await fluence.sweep(dry_run=False)
        assert (report.ended, report.unsettled, report.foreign) == ((made,), ("vm-1",), 0)
    assert one.live() == []


async def test_a_sweep_in_progress_prevents_adoption(simulator: Simulator, path: Path) -> None:
    (id,) = await made(simulator, "exp-1")
    write(path, entry("abc", 1, "intent"), entry("abc", 1, "deployed", id=id))
    watching = journal_at(path)
    await watching.open()
    async with sweeping(simulator, path) as fluence:
        sweep = asyncio.ensure_future(fluence.sweep(dry_run=False))
        await asyncio.sleep(5)  # it is not ACTIVE yet
        assert watching.claims.is_held(id)
        assert watching.claims.left_behind() == []
        assert len((await sweep).ended) == 1
    assert watching.claims.left_behind() == []
    assert not watching.claims.is_held(id)
    watching.close()


async def test_a_sweep_spares_its_own_session(simulator: Simulator, path: Path) -> None:
    async with sweeping(simulator, path) as fluence:
        mine = await fluence.deploy_and_wait(vm_spec(simulator, "ci-1"))
        report = await fluence.sweep(prefix="ci-", dry_run=False)
        assert report.found == ()
        await fluence.terminate_and_wait(mine)
    assert '"ended"' in path.read_text()  # so that nothing needs to remember it


async def test_a_young_post_is_waited_for_once(simulator: Simulator, path: Path) -> None:
    """The instance may still come, so the entry stays open. The same session does not wait again."""
    write(path, entry("abc", 1, "intent", since=since()))
    loop = asyncio.get_running_loop()
    policy = DeployPolicy(settle=30, watch=300)
    for _ in range(2):  # a later session does
        async with session_on(simulator, journal=path, deploy=policy) as fluence:
            began = loop.time()
            assert (await fluence.sweep(dry_run=False)).unsettled == ("exp-1",)
            assert 30 <= loop.time() - began < 35
            assert (await fluence.sweep(dry_run=False)).unsettled == ()
            assert loop.time() - began < 35
    await made(simulator, "exp-1")
    async with session_on(simulator, journal=path, deploy=policy) as fluence:
        assert len((await fluence.sweep(dry_run=False)).ended) == 1
    assert simulator.live() == []


async def test_an_old_list_closes_no_entry(path: Path) -> None:
    """A sweep ends an instance for 15 minutes. Its LIST of before lacks an instance that comes meanwhile."""
    simulator = Simulator(provisioning=Provisioning(median=900, sigma=0.0))
    policy = DeployPolicy(settle=30, watch=200)
    (id,) = await made(simulator, "exp-1")
    write(
        path,
        entry("abc", 1, "intent", since=since()),
        entry("abc", 1, "deployed", id=id),
        entry("abc", 2, "intent", name="exp-2", since=since()),
    )
    async with session_on(simulator, journal=path, deploy=policy) as fluence:
        sweeping = asyncio.ensure_future(fluence.sweep(dry_run=False))
        await asyncio.sleep(100)
        await made(simulator, "exp-2")
        report = await sweeping
    assert ([ref.id for ref in report.ended], report.unsettled) == ([id], ("exp-2",))
    async with session_on(simulator, journal=path, deploy=policy) as fluence:
        assert [ref.name for ref in (await fluence.sweep(dry_run=False)).ended] == ["exp-2"]
    assert simulator.live() == []


@pytest.mark.parametrize("age", ["10m", -1, float("nan"), float("inf"), 1e300, timedelta(-1), [60]])
async def test_an_odd_age_sweeps_nothing(age: Any, simulator: Simulator) -> None:
    await made(simulator, "ci-1")
    simulator.requests.clear()
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError, match="number of seconds"):
            await fluence.sweep(prefix="ci-", older_than=age, dry_run=False)
    assert simulator.requests == []
