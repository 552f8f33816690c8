"""Waiting, updating, terminating, and what becomes of an instance when the wait ends badly.

On virtual time: minutes of provisioning take milliseconds. What counts is the simulator's ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from decimal import Decimal
from typing import Any

import anyio
import attrs
import pytest

from aiofluence import (
    AuthError,
    ConfigError,
    Container,
    ContainerUpdate,
    InstanceEndedError,
    InstanceFailedError,
    InstanceRef,
    InsufficientBalanceError,
    Kind,
    LifecycleError,
    Machine,
    NotFoundError,
    PlanUnavailableError,
    Poll,
    RegistryCredentials,
    SpecError,
    Status,
    UnsupportedImageError,
    Until,
    VMSpec,
    WaitTimeoutError,
)
from aiofluence.lifecycle.wait import address, is_ready
from aiofluence.simulator import ContainerInstance, Fault, Provisioning, Simulator, run_virtual

from ..harness import (
    OTHER_IMAGE,
    SSH_KEY,
    VIRTUAL,
    baremetal_spec,
    container_spec,
    now,
    session_on,
    session_over_http,
    vm_spec,
)

SLOW = Provisioning(median=150, sigma=0.0)


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def test_deploy_and_wait_on_all_three_kinds() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        vm = await fluence.deploy_and_wait(vm_spec(simulator))
        metal = await fluence.deploy_and_wait(baremetal_spec(simulator))
        assert (type(container), type(vm), type(metal)) == (Container, Machine, Machine)
        assert {container.status, vm.status, metal.status} == {Status.ACTIVE}
        assert [instance.kind for instance in (container, vm, metal)] == list(Kind)
    assert {instance.id for instance in simulator.live()} == {container.id, vm.id, metal.id}


def test_virtual_minutes_pass_in_a_second() -> None:
    async def main() -> float:
        simulator = Simulator(provisioning=Provisioning(median=180, sigma=0.0))
        async with session_on(simulator) as fluence:
            began = now()
            await fluence.deploy_and_wait(container_spec(simulator))
            return now() - began

    began = time.perf_counter()
    virtual = run_virtual(main)
    assert 180 <= virtual <= 187
    # Not a claim about speed: only that nobody really waits.
    assert time.perf_counter() - began < 10


async def test_a_wrong_until_costs_nothing() -> None:
    simulator = Simulator()
    wrong: Any = "there"
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator)
        with pytest.raises(ConfigError, match="READY"):
            await fluence.deploy_and_wait(spec, until=wrong)
        with pytest.raises(ConfigError):
            async with fluence.running(spec, until=wrong):
                pass
        with pytest.raises(ConfigError):
            await fluence.deploy_all_and_wait([spec], until=wrong)
        with pytest.raises(ConfigError):
            await fluence.ensure(spec, until=wrong)
        assert simulator.instances() == []
        ref = await fluence.containers.deploy(spec)
        with pytest.raises(ConfigError):
            await fluence.wait(ref, until=wrong)


async def test_until_says_how_far() -> None:
    provisioning = Provisioning(median=100, sigma=0.0, network_delay=20, domain_delay=30)
    simulator = Simulator(provisioning=provisioning)
    async with session_on(simulator, poll=Poll(interval=1)) as fluence:
        began = now()
        active = await fluence.deploy_and_wait(container_spec(simulator), until=Until.ACTIVE)
        assert not is_ready(active)
        at_active = now() - began
        ready = await fluence.wait(active, until=Until.READY)
        assert is_ready(ready)
        assert now() - began >= at_active + 20
        assert isinstance(ready, Container)
        assert ready.network is not None
        assert ready.network.domain is not None


async def test_a_ref_a_row_and_a_detail_are_all_taken() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        ref = await fluence.vms.deploy(vm_spec(simulator))
        (row,) = await fluence.vms.list()
        detail = await fluence.vms.get(ref.id)
        machines = [await fluence.wait(it) for it in (ref, row, detail)]
        assert [machine.id for machine in machines] == [ref.id] * 3
        ended = await fluence.terminate_and_wait(row)
        assert ended is not None
        assert ended.status is Status.ENDED


async def test_a_failure_has_its_events() -> None:
    simulator = Simulator()
    simulator.fail_next_provisioning()
    async with session_on(simulator) as fluence:
        with pytest.raises(InstanceFailedError, match="refund") as caught:
            await fluence.deploy_and_wait(container_spec(simulator))
        error = caught.value
        assert error.ref is not None
        assert error.last_seen is not None
        assert error.last_seen.status is Status.FAILED
        assert [sighting.status for sighting in error.timeline] == [Status.INITIALIZED, Status.FAILED]
        assert error.timeline[0].after < error.timeline[1].after
        assert any(event.type == "Warning" for event in error.events)
        assert error.events[-1].raw in str(error)
    assert simulator.live() == []
    assert simulator.spent() == 0
    assert simulator.balance == simulator.opening_balance


async def test_a_failed_machine_has_no_events() -> None:
    simulator = Simulator()
    simulator.fail_next_provisioning()
    async with session_on(simulator) as fluence:
        with pytest.raises(InstanceFailedError) as caught:
            await fluence.deploy_and_wait(vm_spec(simulator))
        assert (caught.value.events, caught.value.logs) == ((), ())


async def test_a_failure_is_raised_without_its_events() -> None:
    simulator = Simulator()
    simulator.fail_next_provisioning()
    simulator.fail("GET /gpu/instances/{id}/events", Fault.status(404), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(InstanceFailedError) as caught:
            await fluence.deploy_and_wait(container_spec(simulator))
    assert caught.value.events == ()


async def test_a_timeout_ends_the_instance() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        began = now()
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.deploy_and_wait(container_spec(simulator), timeout=60)
        assert 60 <= now() - began < 62.5
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, LifecycleError)
        assert caught.value.ref is not None
        assert len(simulator.live()) == 1  # not ACTIVE yet, so it could not be deleted yet
    assert simulator.live() == []
    assert simulator.reserved() == 0


async def test_on_failure_keep_names_the_instance() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.deploy_and_wait(container_spec(simulator), timeout=60, on_failure="keep")
        assert caught.value.ref is not None
    assert [instance.id for instance in simulator.live()] == [caught.value.ref.id]


async def test_a_wait_alone_ends_nothing() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        with pytest.raises(WaitTimeoutError):
            await fluence.wait(ref, timeout=10)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await fluence.wait(ref)
    assert len(simulator.live()) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault.hang(), Fault.status(503), Fault.status(429, headers={"Retry-After": "100"})],
    ids=lambda fault: f"{fault.effect.value}-{fault.code}",
)
async def test_no_request_outlasts_its_wait(fault: Fault) -> None:
    simulator = Simulator()
    loop = asyncio.get_running_loop()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        update = ContainerUpdate.from_container(container, image=OTHER_IMAGE)
        simulator.fail("PUT /gpu/instances/{id}", fault, times=None)
        began = loop.time()
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.update_and_wait(container, update, timeout=5)
        assert loop.time() - began == pytest.approx(5, abs=0.1)
        await asyncio.sleep(200)
        simulator.clear_faults()
        assert await caught.value.resume()  # which sends it, for it never was
        simulator.fail("DELETE /gpu/instances/{id}", fault, times=None)
        began = loop.time()
        with pytest.raises(WaitTimeoutError):
            await fluence.terminate_and_wait(container, timeout=5)
        assert loop.time() - began == pytest.approx(5, abs=0.1)
        await asyncio.sleep(200)
        simulator.fail("GET /gpu/plans/", fault, times=None)
        began = loop.time()
        with pytest.raises(WaitTimeoutError):
            await fluence.deploy_all_and_wait([container_spec(simulator, "b")], timeout=5, max_hourly=9)
        assert loop.time() - began == pytest.approx(5, abs=0.1)


async def test_silent_events_delay_no_failure() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail_next_provisioning()
    simulator.fail("GET /gpu/instances/{id}/events", Fault.hang(), times=None)
    began = asyncio.get_running_loop().time()
    async with session_on(simulator) as fluence:
        with pytest.raises(InstanceFailedError):
            await fluence.deploy_and_wait(container_spec(simulator), timeout=200)
    assert asyncio.get_running_loop().time() - began <= 202.1


async def test_without_time_nothing_is_paid_for() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator)
        for waiting in (
            fluence.deploy_and_wait(spec, timeout=0),
            fluence.ensure(spec, timeout=0),
            fluence.running(spec, timeout=0).__aenter__(),
        ):
            with pytest.raises(WaitTimeoutError):
                await waiting
        report = await fluence.deploy_all_and_wait([spec], timeout=0)
        assert len(report.failed) == 1
    assert simulator.requests == []


async def test_waiting_for_what_has_ended_or_never_was() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        await fluence.terminate_and_wait(container)
        with pytest.raises(InstanceEndedError, match="ended"):
            await fluence.wait(container)
        ghost = InstanceRef(Kind.VM, "00000000-0000-0000-0000-000000000000", "ghost")
        with pytest.raises(InstanceEndedError, match="does not know"):
            await fluence.wait(ghost)
        assert await fluence.terminate_and_wait(ghost) is None


async def test_an_unlisted_id_is_waited_for() -> None:
    simulator = Simulator(list_lag=30)
    async with session_on(simulator) as fluence:
        refs = [await fluence.containers.deploy(container_spec(simulator, name)) for name in ("a", "b")]
        alone = await fluence.vms.deploy(vm_spec(simulator))
        first, second, ended = await asyncio.gather(
            fluence.wait(refs[0]), fluence.wait(refs[1]), fluence.terminate_and_wait(alone)
        )
        assert first.status is second.status is Status.ACTIVE
        assert ended is not None
        assert ended.status is Status.ENDED
    looks = [request for request in simulator.requests if request.at < 30 and request.method == "GET"]
    assert {request.status for request in looks} >= {200, 404}  # of lists and details, in vain
    assert len(simulator.instances()) == 3


async def test_looks_that_fail_do_not_fail_the_wait() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        simulator.fail("GET /gpu/instances/{id}", Fault.status(500), times=12)
        assert (await fluence.wait(ref)).status is Status.ACTIVE

        simulator.fail("GET /gpu/instances/{id}", Fault.reset(), times=None)
        with pytest.raises(WaitTimeoutError, match="last poll failed") as caught:
            await fluence.wait(ref, timeout=30)
        assert caught.value.last_error is not None
        simulator.clear_faults()


async def test_a_refused_key_ends_a_wait() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        simulator.fail("GET /gpu/instances/{id}", Fault.status(401, {"detail": "revoked"}), times=None)
        began = now()
        with pytest.raises(AuthError, match="revoked"):
            await fluence.wait(ref)
        assert now() - began < 1


async def test_terminate_waits_until_it_may() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        ended = await fluence.terminate_and_wait(ref)
        assert ended is not None
        assert ended.status is Status.ENDED
    assert simulator.count("DELETE /gpu/instances/{id}") == 1
    assert simulator.live() == []


async def test_a_failing_instance_needs_no_delete() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail_next_provisioning()
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        ended = await fluence.terminate_and_wait(ref)
        assert ended is not None
        assert ended.status is Status.FAILED
        with pytest.raises(WaitTimeoutError):
            slow = await fluence.containers.deploy(container_spec(simulator, "exp-2"))
            await fluence.terminate_and_wait(slow, timeout=20)
    assert simulator.count("DELETE /gpu/instances/{id}") == 0


async def test_an_update_waits_for_its_detail() -> None:
    simulator = Simulator()
    credentials = RegistryCredentials("ghcr.io", "me", "pw")
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, environment={"A": "1"}, ssh_key=SSH_KEY, credentials=credentials)
        container = await fluence.deploy_and_wait(spec, until=Until.READY)
        (old_pod,) = {line.pod for line in await fluence.containers.logs(container.id)}
        update = ContainerUpdate.from_container(
            container, credentials=credentials, image=OTHER_IMAGE, environment={"B": "2"}, name="exp-2"
        )
        updated = await fluence.update_and_wait(container, update)
        assert updated.name == "exp-2"
        assert updated.container_info.image == OTHER_IMAGE
        assert updated.container_info.environment == {"B": "2", "SSH_PUBKEY": SSH_KEY}
        assert updated.container_info.expose == container.container_info.expose
        assert updated.container_status == "STARTED"
        await asyncio.sleep(60)
        assert old_pod not in {line.pod for line in await fluence.containers.logs(container.id)}
        again = await fluence.update_and_wait(
            updated.ref, ContainerUpdate.from_container(updated, name="exp-3")
        )
        assert again.name == "exp-3"
        with pytest.raises(ConfigError, match="containers"):
            await fluence.update_and_wait(InstanceRef(Kind.VM, "x", "x"), update)
        with pytest.raises(SpecError):
            await fluence.update_and_wait(again, ContainerUpdate(name="Bad!", image=""))


async def test_running_ends_at_the_exit() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        async with fluence.running(container_spec(simulator), until=Until.READY) as container:
            assert [instance.id for instance in simulator.live()] == [container.id]
        assert simulator.live() == []

        with pytest.raises(ZeroDivisionError):
            async with fluence.running(vm_spec(simulator)):
                _ = 1 / 0
        assert simulator.live() == []

        async with fluence.running(container_spec(simulator, "mine")) as container:
            await fluence.terminate_and_wait(container)  # ended by the user himself: fine
    assert simulator.reserved() == 0
    assert simulator.balance == simulator.opening_balance - simulator.spent()


async def test_refusals_cost_nothing_and_say_why() -> None:
    simulator = Simulator()
    plan_id = simulator.catalog.find("container").id
    async with session_on(simulator) as fluence:
        with pytest.raises(SpecError):
            await fluence.deploy_and_wait(container_spec(simulator, "Bad Name"))
        assert simulator.requests == []
        simulator.set_balance(Decimal("0.01"))
        with pytest.raises(InsufficientBalanceError, match="Insufficient balance to deploy instance"):
            await fluence.deploy_and_wait(container_spec(simulator))
        simulator.set_balance(1000)
        simulator.sell_out(plan_id)
        with pytest.raises(PlanUnavailableError):
            await fluence.deploy_and_wait(container_spec(simulator))
        good = vm_spec(simulator)
        wrong = VMSpec(name="vm-1", plan_id=good.plan_id, ssh_key=SSH_KEY, os_image="plan9")
        with pytest.raises(UnsupportedImageError) as caught:
            await fluence.deploy_and_wait(wrong)
        assert good.os_image in caught.value.options
        with pytest.raises(ConfigError, match="on_failure"):
            await fluence.deploy_and_wait(good, on_failure="explode")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="timeout"):
            await fluence.deploy_and_wait(good, timeout=-1)
    assert simulator.ledger == () or simulator.spent() == 0
    assert simulator.live() == []


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_reachable_instance_is_connected_to(host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    simulator = Simulator()
    async with (
        await asyncio.start_server(accept, host, 0) as server,
        session_on(simulator, poll=Poll(interval=1)) as fluence,
    ):
        container = await fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
        # The simulator's addresses are of documentation networks; this one can be tried.
        record = simulator.get_instance(container.id)
        assert isinstance(record, ContainerInstance)
        assert record.forwarded_ports is not None
        record.domain = host
        record.forwarded_ports[0]["external_port"] = "1"
        with pytest.raises(WaitTimeoutError, match="reachable"):
            await fluence.wait(container, until=Until.REACHABLE, timeout=5)
        port = server.sockets[0].getsockname()[1]
        record.forwarded_ports[0]["external_port"] = str(port)
        reached = await fluence.wait(container, until=Until.REACHABLE)
        assert address(reached) == (host, port)


@pytest.mark.parametrize(
    ("domain", "port"), [("127.0.0.1", "99999"), ("a..b", "22"), ("a" * 70, "22"), ("a\0b", "22")]
)
async def test_an_address_that_is_none_is_not_reachable(domain: str, port: str) -> None:
    simulator = Simulator()
    async with session_on(simulator, poll=Poll(interval=1)) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
        record = simulator.get_instance(container.id)
        assert isinstance(record, ContainerInstance)
        assert record.forwarded_ports is not None
        record.domain, record.forwarded_ports[0]["external_port"] = domain, port
        with pytest.raises(WaitTimeoutError, match="reachable"):
            await fluence.wait(container, until=Until.REACHABLE, timeout=5)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog is not silent")
async def test_a_silent_address_ends_with_the_timeout() -> None:
    simulator = Simulator()
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # nobody accepts them, so that the next ones are not even answered
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        async with session_on(simulator) as fluence:
            container = await fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
            record = simulator.get_instance(container.id)
            assert isinstance(record, ContainerInstance)
            assert record.forwarded_ports is not None
            record.domain = "127.0.0.1"
            record.forwarded_ports[0]["external_port"] = str(full.getsockname()[1])
            began = asyncio.get_running_loop().time()
            waits = [fluence.wait(container, until=Until.REACHABLE, timeout=1) for _ in range(40)]
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert {type(result) for result in results} == {WaitTimeoutError}
            assert asyncio.get_running_loop().time() - began <= 3.1


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("ssh ubuntu@203.0.113.7", ("203.0.113.7", 22)),
        ("ssh -p 2222 root@gpu.example", ("gpu.example", 2222)),
        ("ssh root@[2001:db8::1]", ("2001:db8::1", 22)),
        (None, None),
        ("call us", None),
    ],
)
async def test_a_machines_address_is_in_its_ssh_line(line: str | None, where: Any) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        machine = await fluence.deploy_and_wait(vm_spec(simulator))
    assert address(attrs.evolve(machine, ssh_connection=line)) == where


async def test_every_status_line_of_a_session() -> None:
    simulator = Simulator()
    session = session_on(simulator)
    assert "new" in repr(session)
    async with session as fluence:
        assert fluence is session
        assert "open" in repr(session)
        with pytest.raises(NotFoundError):
            await fluence.containers.get("nope")
    assert "closed" in repr(session)
    with pytest.raises(ConfigError):
        await session.__aenter__()


async def test_an_id_alone_is_refused() -> None:
    an_id: Any = "5773b7d1-e85a-42f4-8efd-c2b02d8f6faf"
    async with session_on(Simulator()) as fluence:
        for verb in (
            lambda: fluence.wait(an_id),
            lambda: fluence.terminate_and_wait(an_id),
            lambda: fluence.update_and_wait(an_id, ContainerUpdate(name="exp-1", image=OTHER_IMAGE)),
        ):
            with pytest.raises(ConfigError, match="id alone"):
                await verb()
        for tail in (
            lambda: fluence.tail_logs(an_id),
            lambda: fluence.tail_events(an_id),
            lambda: fluence.tail_all([an_id]),
        ):
            with pytest.raises(ConfigError, match="id alone"):
                tail()


async def test_move_on_after_leaves_nothing() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with anyio.move_on_after(30) as scope:
            await fluence.deploy_and_wait(container_spec(simulator))
        assert scope.cancelled_caught
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
    assert simulator.live() == []


async def test_a_wall_clock_that_jumps_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_over_http(simulator) as fluence:
        began = now()
        waiting = asyncio.ensure_future(fluence.deploy_and_wait(container_spec(simulator), timeout=200))
        await asyncio.sleep(10)
        real = time.time
        monkeypatch.setattr("time.time", lambda: real() + 3600)
        await asyncio.sleep(10)
        monkeypatch.setattr("time.time", lambda: real() - 3600)
        await waiting
        assert 150 <= now() - began < 160


async def test_a_blocked_loop_polls_once_more() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        waiting = asyncio.ensure_future(fluence.wait(ref, timeout=148))
        await asyncio.sleep(146)
        # The loop is blocked for 5 s: when it runs again, the deadline is past and the instance ACTIVE.
        asyncio.get_running_loop()._clock.passed += 5  # type: ignore[attr-defined]
        assert (await waiting).status is Status.ACTIVE
