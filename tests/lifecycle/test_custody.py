"""Nothing is left behind: whoever is cancelled, whenever, the ledger shows nothing live after the close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import anyio
import attrs
import pytest

from aiofluence import (
    ConfigError,
    CustodyError,
    DecodeError,
    DeployPolicy,
    RefusedError,
    Reply,
    Request,
    Session,
    WaitTimeoutError,
)
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Provisioning, Simulator, SimulatorWire, run_virtual

from ..harness import FAST, VIRTUAL, container_spec, next_tick, now, sample, session_on, vm_spec

SLOW = Provisioning(median=150, sigma=0.0)


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def in_running(fluence: Session, simulator: Simulator) -> None:
    async with fluence.running(container_spec(simulator)):
        await asyncio.sleep(5)


async def in_a_block_that_fails(fluence: Session, simulator: Simulator) -> None:
    with pytest.raises(ZeroDivisionError):
        async with fluence.running(container_spec(simulator)):
            await asyncio.sleep(5)
            raise ZeroDivisionError


async def in_deploy_and_wait(fluence: Session, simulator: Simulator) -> None:
    await fluence.deploy_and_wait(container_spec(simulator))
    # The caller has it now: what it does with it is its own business.
    raise _HandedOverError


class _HandedOverError(Exception):
    pass


async def by_cancellation(use: Awaitable[None], ticks: int) -> BaseException | None:
    task = asyncio.ensure_future(use)
    for _ in range(ticks):
        if task.done():
            break
        await _tick()
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result


async def by_timeout(use: Awaitable[None], ticks: int) -> BaseException | None:
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()

    async def clock(deadline: asyncio.Timeout) -> None:
        for _ in range(ticks):
            await _tick()
        if not over:
            deadline.reschedule(asyncio.get_running_loop().time())

    over = False
    result: BaseException | None = None
    try:
        async with asyncio.timeout(None) as deadline:
            counting = asyncio.ensure_future(clock(deadline))
            try:
                await use
            finally:
                over = True
                counting.cancel()
    except (_HandedOverError, TimeoutError) as error:
        result = error
    assert task.cancelling() == before
    return result


async def by_a_second_task(use: Awaitable[None], ticks: int) -> BaseException | None:
    """A sibling fails, and the group cancels the caller."""

    async def fail() -> None:
        for _ in range(ticks):
            await _tick()
        raise ZeroDivisionError

    result: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            failing = group.create_task(fail())
            await group.create_task(_run(use))
            failing.cancel()
    except ExceptionGroup as errors:
        handed_over, _ = errors.split(_HandedOverError)
        result = (handed_over or errors).exceptions[0]
    return result


async def _run(use: Awaitable[None]) -> None:
    await use


WAYS: list[Callable[[Awaitable[None], int], Awaitable[BaseException | None]]] = [
    by_cancellation,
    by_timeout,
    by_a_second_task,
]


@pytest.mark.parametrize(
    ("leave", "use", "fault"),
    sample(4, WAYS, [in_deploy_and_wait, in_running, in_a_block_that_fails], [None, "after", "before"]),
)
def test_left_at_every_tick_nothing_is_left(
    leave: Callable[[Awaitable[None], int], Awaitable[BaseException | None]],
    use: Callable[[Session, Simulator], Awaitable[None]],
    fault: Any,
) -> None:
    _leave_at_every_tick(leave, use, fault, "likely")


def test_left_at_every_tick_on_kind() -> None:
    _leave_at_every_tick(by_cancellation, in_running, "after", "kind")


def _leave_at_every_tick(
    leave: Callable[[Awaitable[None], int], Awaitable[BaseException | None]],
    use: Callable[[Session, Simulator], Awaitable[None]],
    fault: Any,
    profile: Any,
) -> None:
    """Make the caller leave at its n-th step, for each n of `next_tick` until it gets through."""

    async def run(ticks: int) -> bool:
        simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0), profile=profile)
        if fault is not None:
            simulator.fail("POST /gpu/instances/", Fault.reset(), when=fault)
        policy = DeployPolicy(settle=30, watch=45)  # short, since each poll is a step more to leave at
        async with session_on(simulator, close_timeout=900, deploy=policy) as fluence:
            result = await leave(use(fluence, simulator), ticks)
        through = result is None or isinstance(result, _HandedOverError)
        left = isinstance(result, asyncio.CancelledError | TimeoutError | ZeroDivisionError)
        assert through or left, result
        if isinstance(result, _HandedOverError):
            assert len(simulator.live()) == 1
        else:
            assert simulator.live() == []
            assert simulator.reserved() == 0
        return through

    ticks = WAYS.index(leave)
    while not run_virtual(lambda n=ticks: run(n)):  # type: ignore[misc]
        ticks = next_tick(ticks, len(WAYS))
    assert ticks > 6


async def _tick() -> None:
    """Let everything that is ready run; if nothing is, go to the next timer: time jumps in between."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    if not loop._ready and loop._scheduled:  # type: ignore[attr-defined]
        pending = [timer.when() for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if pending:
            await asyncio.sleep(max(0.0, min(pending) - loop.time()))


async def test_a_failing_sibling_in_a_task_group() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for number in range(9):
                    group.create_task(fluence.deploy_and_wait(container_spec(simulator, f"exp-{number}")))

                async def fail() -> None:
                    await asyncio.sleep(40)
                    raise ZeroDivisionError

                group.create_task(fail())
        assert caught.group_contains(ZeroDivisionError)
        assert len(simulator.live()) == 9
    assert len(simulator.instances()) == 9
    assert simulator.live() == []


async def test_timeouts_of_the_caller() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await fluence.deploy_and_wait(container_spec(simulator, "exp-1"))
        with anyio.move_on_after(30):
            await fluence.deploy_and_wait(container_spec(simulator, "exp-2"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fluence.deploy_and_wait(container_spec(simulator, "exp-3")), 30)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(200), fluence.running(container_spec(simulator, "exp-4")):
                await asyncio.sleep(1000)
        assert task.cancelling() == 0
    assert len(simulator.instances()) == 4
    assert simulator.live() == []


async def test_the_clean_up_survives_faults() -> None:
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0))
    async with session_on(simulator, close_timeout=3000) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
        simulator.random_faults(0.4, seed=3)
    assert simulator.live() == []


async def test_a_failed_instance_needs_no_delete() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail_next_provisioning()
    async with session_on(simulator) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
    assert simulator.count("DELETE /gpu/instances/{id}") == 0
    assert simulator.live() == []


async def test_an_unlisted_young_instance_is_not_gone() -> None:
    simulator = Simulator(provisioning=SLOW, list_lag=80)
    async with session_on(simulator) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
    assert len(simulator.instances()) == 1
    assert simulator.live() == []


Held = set[str]


async def waiting(fluence: Session, simulator: Simulator, held: Held) -> None:
    held.add((await fluence.deploy_and_wait(container_spec(simulator))).id)


async def running(fluence: Session, simulator: Simulator, _: Held) -> None:
    async with fluence.running(container_spec(simulator)):
        await asyncio.sleep(10_000)


async def launching(fluence: Session, simulator: Simulator, held: Held) -> None:
    async with fluence.launch([container_spec(simulator)]) as launch:
        async for outcome in launch:
            held.update([outcome.ref.id] if outcome.instance and outcome.ref else [])


async def not_listening(fluence: Session, simulator: Simulator, held: Held) -> None:
    async with fluence.launch([container_spec(simulator)]) as launch:
        await asyncio.sleep(320)
        async for outcome in launch:
            held.update([outcome.ref.id] if outcome.instance and outcome.ref else [])


@pytest.mark.parametrize("use", [waiting, running, launching, not_listening])
@pytest.mark.parametrize("after", [0.005, 0.01, 0.02, 0.03, 5.0, 60.0, 140.0, 300.0])
async def test_other_tasks_get_their_result_at_a_close(
    use: Callable[[Session, Simulator, Held], Awaitable[None]], after: float
) -> None:
    """In tasks that nobody has waited for, or cancelled: they get what they wait for, and nothing is lost."""
    simulator = Simulator(provisioning=SLOW)
    held: Held = set()

    async def use_it() -> None:
        await use(fluence, simulator, held)

    async with session_on(simulator, close_timeout=900) as fluence:
        using = asyncio.ensure_future(use_it())
        await asyncio.sleep(after)
    assert {instance.id for instance in simulator.live()} == held
    assert len(held) == (use is not running)
    assert len(simulator.instances()) == 1
    await asyncio.sleep(1)
    assert using.done() == (use is not running)  # that one has its block to finish
    using.cancel()
    await asyncio.gather(using, return_exceptions=True)


@pytest.mark.parametrize("use", [waiting, launching, not_listening])
async def test_instances_of_other_tasks_are_named(
    use: Callable[[Session, Simulator, Held], Awaitable[None]],
) -> None:
    simulator = Simulator(provisioning=SLOW)
    with pytest.raises(CustodyError) as caught:
        async with session_on(simulator, close_timeout=100) as fluence:
            using = asyncio.ensure_future(use(fluence, simulator, set()))
            await asyncio.sleep(5)
    assert [ref.id for ref in caught.value.refs] == [instance.id for instance in simulator.live()]
    using.cancel()
    await asyncio.wait([using])


@pytest.mark.parametrize("call", ["GET", "DELETE"])
async def test_a_404_that_passes_ends_no_custody(call: str) -> None:
    """Such as of a gateway that is being set up anew."""
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail(f"{call} /gpu/instances/{{id}}", Fault.status(404), skip=call == "GET", times=3)
    assert len(simulator.instances()) == 1
    assert simulator.live() == []


async def test_an_unsent_post_of_a_gone_caller() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail("POST /gpu/instances/", Fault.status(429, headers={"Retry-After": "60"}))
    async with session_on(simulator) as fluence:
        with anyio.move_on_after(5):
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(fluence.deploy_and_wait(container_spec(simulator, f"exp-{number}")))
                await asyncio.sleep(1)
                for name in ("exp-5", "exp-6", "exp-6"):  # at the gate, and behind its like
                    group.create_task(fluence.ensure(container_spec(simulator, name)))
    assert len(simulator.instances()) == 4
    assert simulator.live() == []


async def test_an_odd_detail_keeps_nothing_running() -> None:
    """What has to be ended needs no more than its status."""

    class Grown(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            reply = await super().send(request)
            return attrs.evolve(reply, body=reply.body.replace(b'"billing"', b'"costs"'))

    simulator = Simulator(provisioning=SLOW)
    async with Session(DEFAULT_API_KEY, wire=Grown(simulator)) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(vm_spec(simulator))
        ref = await fluence.containers.deploy(container_spec(simulator, "exp-2"))
        with pytest.raises(WaitTimeoutError, match=r"ACTIVE; .*missing"):
            await fluence.wait(ref, timeout=200)
        with pytest.raises(DecodeError):
            await fluence.containers.get(ref.id)
    assert [instance.id for instance in simulator.live()] == [ref.id]


async def test_a_delete_without_effect_is_repeated() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail("DELETE /gpu/instances/{id}", Fault.status(204))
    assert simulator.count("DELETE /gpu/instances/{id}") == 2
    assert simulator.live() == []


async def test_a_slow_end_needs_one_delete() -> None:
    """The service takes 40 s after the 204. Only after a minute is the DELETE sent again."""

    class SlowEnd(SimulatorWire):
        deletes: ClassVar[list[asyncio.Task[Reply]]] = []

        async def send(self, request: Request) -> Reply:
            if request.method != "DELETE":
                return await super().send(request)
            self.deletes.append(asyncio.ensure_future(self._later(request)))
            return Reply(204)

        async def _later(self, request: Request) -> Reply:
            await asyncio.sleep(40)
            return await super().send(request)

    simulator = Simulator()
    async with Session(DEFAULT_API_KEY, wire=SlowEnd(simulator), rate=FAST) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        began = now()
        await fluence.terminate_and_wait(container)
        assert 40 <= now() - began < 55
    assert len(SlowEnd.deletes) == 1
    assert simulator.live() == []


async def test_what_is_left_at_the_end_is_said() -> None:
    simulator = Simulator(provisioning=SLOW)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(CustodyError, match="may still be running") as caught:
        async with session_on(simulator, close_timeout=60) as fluence:
            with anyio.move_on_after(5):
                await fluence.deploy_and_wait(container_spec(simulator))
    assert loop.time() - began == pytest.approx(65, abs=1)
    assert [ref.id for ref in caught.value.refs] == [instance.id for instance in simulator.live()]


async def test_a_revoked_key_leaves_a_report() -> None:
    simulator = Simulator(provisioning=SLOW)
    with pytest.raises(CustodyError, match="revoked") as caught:
        async with session_on(simulator) as fluence:
            for number in range(3):
                with anyio.move_on_after(5):
                    await fluence.deploy_and_wait(container_spec(simulator, f"exp-{number}"))
            simulator.fail("*", Fault.status(401, {"detail": "revoked"}), times=None)
    assert {ref.name for ref in caught.value.refs} == {"exp-0", "exp-1", "exp-2"}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("times", [1, 40])
async def test_custody_survives_a_refused_key(status: int, times: int) -> None:
    """A single 401 or 403 proves nothing, and after many the key may be good again."""
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail("GET /gpu/instances/{id}", Fault.status(status), times=times)
        await asyncio.sleep(3000)
        assert simulator.live() == []


async def test_a_cancelled_close_finishes_the_clean_up() -> None:
    simulator = Simulator(provisioning=SLOW)

    async def use() -> None:
        async with session_on(simulator) as fluence:
            await fluence.deploy_and_wait(container_spec(simulator))

    task = asyncio.ensure_future(use())
    await asyncio.sleep(10)
    task.cancel()
    await asyncio.sleep(10)
    assert not task.done()
    await asyncio.wait([task])
    assert task.cancelled()
    assert simulator.live() == []


async def test_repeated_cancellations_stop_no_clean_up() -> None:
    simulator = Simulator(provisioning=SLOW)

    async def use() -> None:
        async with session_on(simulator) as fluence:
            await fluence.deploy_and_wait(container_spec(simulator))

    task = asyncio.ensure_future(use())
    for _ in range(5):
        await asyncio.sleep(10)
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(simulator.instances()) == 1
    assert simulator.live() == []


async def test_scopes_wait_for_the_clean_up() -> None:
    simulator = Simulator(provisioning=SLOW)
    with anyio.move_on_after(10) as scope:
        async with session_on(simulator) as fluence:
            await fluence.deploy_and_wait(container_spec(simulator))
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10), session_on(simulator) as fluence:
            await fluence.deploy_and_wait(container_spec(simulator))
    assert len(simulator.instances()) == 2
    assert simulator.live() == []


def test_a_torn_down_loop_is_left_with_a_report(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a second Ctrl-C does: every task is cancelled, the session's own among them."""
    simulator = Simulator(provisioning=SLOW)
    fluence = session_on(simulator)

    async def use() -> None:
        async with fluence:
            await fluence.deploy_and_wait(container_spec(simulator))

    async def main() -> None:
        task = asyncio.ensure_future(use())
        await asyncio.sleep(10)
        task.cancel()  # the first Ctrl-C
        await asyncio.sleep(10)
        assert not task.done()
        assert [ref.name for ref in fluence.custody.ending] == ["exp-1"]

    run_virtual(main)
    (live,) = simulator.live()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [live.id in record.getMessage() for record in errors] == [True]
    told = capsys.readouterr().err
    assert live.id in told
    assert "sweep(prefix='exp-1') with dry_run=False" in told.replace(",", "")


def test_a_torn_down_loop_names_a_deploy(capsys: pytest.CaptureFixture[str]) -> None:
    simulator = Simulator()
    simulator.fail("POST /gpu/instances/", Fault.reset(), when="before", commit_after=40)

    async def use() -> None:
        async with session_on(simulator) as fluence:
            await fluence.deploy_and_wait(container_spec(simulator, "settling"))

    async def main() -> None:
        task = asyncio.ensure_future(use())
        await asyncio.sleep(10)
        task.cancel()
        await asyncio.sleep(10)
        assert not task.done()

    run_virtual(main)
    assert "deploying settling is not known" in capsys.readouterr().err


def test_a_ctrl_c_inside_a_task_of_the_session(capsys: pytest.CaptureFixture[str]) -> None:
    """KeyboardInterrupt is raised wherever the program happens to be, and stops the loop."""
    simulator = Simulator(provisioning=SLOW)

    def strike(call: Any, reply: Any) -> None:
        if simulator.now > 30:
            raise KeyboardInterrupt

    async def main() -> None:
        async with session_on(simulator, on_reply=strike) as fluence:
            with anyio.move_on_after(10):  # so that it is the custodian's task that looks
                await fluence.deploy_and_wait(container_spec(simulator))

    with pytest.raises(KeyboardInterrupt):
        run_virtual(main)
    (live,) = simulator.live()
    assert live.id in capsys.readouterr().err


async def test_an_unclear_abandoned_deploy_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulator = Simulator()
    simulator.fail("POST /gpu/instances/", Fault.reset(), when="after", times=None)
    simulator.fail("GET /gpu/instances/", Fault.status(500), times=None)
    policy = DeployPolicy(settle=10, watch=20)
    with pytest.raises(CustodyError, match="exp-1") as caught:
        async with session_on(simulator, deploy=policy) as fluence:
            with anyio.move_on_after(5):
                await fluence.containers.deploy(container_spec(simulator))
            assert fluence.custody.deploying == ("exp-1",)
    assert caught.value.names == ("exp-1",)
    assert caught.value.refs == ()
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 1
    assert len(simulator.live()) == 1  # it was right to worry


async def test_a_deploy_cut_off_by_the_close_is_named() -> None:
    simulator = Simulator()
    fluence = session_on(simulator, deploy=DeployPolicy(settle=300, watch=20), close_timeout=30)
    simulator.fail("POST /gpu/instances/", Fault.status(400, {"detail": "Insufficient balance"}))
    simulator.fail("POST /gpu/instances/", Fault.reset(), when="after", times=None)
    simulator.fail("GET /gpu/instances/", Fault.status(500), times=None)
    with pytest.raises(CustodyError) as caught:
        async with fluence:
            with pytest.raises(RefusedError):
                await fluence.containers.deploy(container_spec(simulator, "refused"))
            await asyncio.sleep(100)
            with anyio.move_on_after(5):
                await fluence.containers.deploy(container_spec(simulator, "cut-off"))
    assert caught.value.names == ("cut-off",)
    assert (fluence.custody.uncertain, fluence.custody.deploying) == (("cut-off",), ())


class _Struck(logging.Handler):
    """A second Ctrl-C while the close reports its progress."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("closing:"):
            raise KeyboardInterrupt


def test_a_ctrl_c_in_the_close_names_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail("POST /gpu/instances/vms", Fault.reset(), when="after")
    simulator.fail("GET /gpu/instances/vms", Fault.status(500), times=None)

    async def main() -> None:
        async with session_on(simulator) as fluence:
            with anyio.move_on_after(5):
                await fluence.deploy_and_wait(container_spec(simulator, "being-ended"))
            with anyio.move_on_after(5):
                await fluence.deploy_and_wait(vm_spec(simulator, "unclear"))

    handler = _Struck()
    logging.getLogger("aiofluence").addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_virtual(main)
    finally:
        logging.getLogger("aiofluence").removeHandler(handler)
    told = capsys.readouterr().err
    assert told.count("may still be running, and billing") == 1
    assert [instance.id in told for instance in simulator.live()] == [True, False]
    assert "deploying unclear is not known" in told


async def test_a_complete_close_writes_no_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulator = Simulator(provisioning=SLOW)
    with pytest.raises(CustodyError):
        async with session_on(simulator, close_timeout=10) as fluence:
            with anyio.move_on_after(5):
                await fluence.deploy_and_wait(container_spec(simulator))
    assert "may still be running" not in capsys.readouterr().err


async def test_the_end_of_a_block_waits_for_45_minutes() -> None:
    """The session goes on ending the instance, and names it when it closes."""
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0))
    loop = asyncio.get_running_loop()
    simulator.fail("DELETE /gpu/instances/{id}", Fault.status(400, {"detail": "Only ACTIVE"}), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(WaitTimeoutError, match=r"may be billing.*Only ACTIVE") as caught:
            async with fluence.running(container_spec(simulator)) as container:
                began = loop.time()
        assert loop.time() - began == pytest.approx(2700, abs=1)
        assert caught.value.ref == container.ref
        assert fluence.custody.ending == (container.ref,)
        simulator.clear_faults()
    assert simulator.live() == []


async def test_the_watch_finds_an_abandoned_instance() -> None:
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0))
    simulator.fail("POST /gpu/instances/", Fault.reset(), when="before", commit_after=60)
    policy = DeployPolicy(settle=10, watch=300, max_posts=1)
    async with session_on(simulator, deploy=policy, close_timeout=900) as fluence:
        with anyio.move_on_after(5):
            await fluence.containers.deploy(container_spec(simulator))
    assert len(simulator.instances()) == 1
    assert simulator.live() == []


async def test_an_early_close_names_its_watches(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulator = Simulator()
    simulator.fail("POST /gpu/instances/", Fault.reset(), when="after")
    async with session_on(simulator, close_timeout=30) as fluence:
        await fluence.containers.deploy(container_spec(simulator, "watched-1"))
        assert fluence.custody.watching == ("watched-1",)
    assert "watched-1" in caplog.text


def test_close_timeout_is_a_number_of_seconds() -> None:
    with pytest.raises(ConfigError):
        Session("key", close_timeout=-1)
    with pytest.raises(ConfigError):
        Session("key", max_in_flight=0)
