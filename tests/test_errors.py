"""Lifecycle errors give the time and the cost, and can resume the wait or end the instance.

On the virtual clock. Costs are compared with the simulator's ledger.
"""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import attrs
import pytest

from aiofluence import (
    ConfigError,
    Container,
    ContainerUpdate,
    CustodyError,
    InstanceEndedError,
    InstanceFailedError,
    LifecycleError,
    LogLine,
    NotSentError,
    RefusedError,
    RegistryCredentials,
    Status,
    Until,
    WaitTimeoutError,
)
from aiofluence.models.spending import estimate_spend
from aiofluence.simulator import Fault, Provisioning, Simulator

from .harness import HALF_A_CENT, OTHER_IMAGE, SSH_KEY, VIRTUAL, container_spec, session_on, vm_spec

SLOW = Provisioning(median=150, sigma=0.0)
SECRET = "canary-16180339"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def test_an_error_uses_the_clock_of_the_service() -> None:
    simulator = Simulator(start=datetime(2031, 5, 6, 7, 0, tzinfo=UTC))
    simulator.fail_next_provisioning()
    async with session_on(simulator) as fluence:
        await fluence.containers.list()  # the simulator's time begins with the first request
        await anyio.sleep(600)
        with pytest.raises(InstanceFailedError) as caught:
            await fluence.deploy_and_wait(container_spec(simulator))
        first, last = caught.value.timeline
        assert (first.status, last.status) == (Status.INITIALIZED, Status.FAILED)
        assert first.at is not None
        assert last.at is not None
        deployed = datetime(2031, 5, 6, 7, 10, tzinfo=UTC)
        assert abs(first.at - deployed - timedelta(seconds=first.after)) < timedelta(seconds=2)
        assert (last.at - first.at).total_seconds() == pytest.approx(last.after - first.after, abs=1.1)
    assert caught.value.estimated_spend == simulator.spent() == 0


async def test_a_wait_that_timed_out_goes_on_as_it_was() -> None:
    provisioning = Provisioning(median=150, sigma=0.0, network_delay=100)
    simulator = Simulator(provisioning=provisioning)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.wait(ref, until=Until.READY, timeout=60)
        with pytest.raises(WaitTimeoutError, match="ready") as again:  # it brings a way on, too
            await caught.value.resume(timeout=60)
        assert caught.value.estimated_spend == simulator.spent() > 0
        container = await again.value.resume()
        assert isinstance(container, Container)
        assert container.network is not None  # until=READY, as it was
        await again.value.terminate()
        assert simulator.live() == []
    assert simulator.count("POST /gpu/instances/") == 1


async def test_a_kept_instance_can_be_resumed_or_ended() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        errors = []
        for spec in vm_spec(simulator, "vm-{i}").many(2):
            with pytest.raises(LifecycleError) as caught:
                await fluence.deploy_and_wait(spec, timeout=30, on_failure="keep")
            errors.append(caught.value)
        machine = await errors[0].resume()
        assert machine is not None
        assert machine.status is Status.ACTIVE
        await errors[1].terminate()
        assert [instance.id for instance in simulator.live()] == [machine.id]


async def test_an_instance_in_custody_cannot_be_resumed() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.deploy_and_wait(container_spec(simulator), timeout=30)
        with pytest.raises(ConfigError, match="ending"):
            await caught.value.resume()
        await caught.value.terminate()
        assert simulator.live() == []
    with pytest.raises(NotSentError):
        await caught.value.terminate()


async def test_a_cancelled_terminate_is_finished() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.deploy_and_wait(container_spec(simulator), timeout=30, on_failure="keep")
        with anyio.move_on_after(5):
            await caught.value.terminate()
        assert len(simulator.live()) == 1
    assert simulator.live() == []


async def test_a_resumed_update_sends_no_second_put() -> None:
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0, update_delay=60))
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
        update = ContainerUpdate.from_container(container, image=OTHER_IMAGE)
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.update_and_wait(container, update, timeout=10)
        updated = await caught.value.resume()
        assert isinstance(updated, Container)
        assert updated.container_info.image == OTHER_IMAGE
    assert simulator.count("PUT /gpu/instances/{id}") == 1


async def test_a_termination_that_timed_out_goes_on() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.terminate_and_wait(ref, timeout=30)
        assert len(simulator.live()) == 1
        ended = await caught.value.resume()
        assert ended is not None
        assert ended.status is Status.ENDED
    assert simulator.live() == []


async def test_the_last_look_that_failed_is_there() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        simulator.fail("GET /gpu/instances/{id}", Fault.status(500), times=None)
        simulator.fail("GET /gpu/instances/", Fault.status(500), times=None)
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.wait(ref, timeout=60)
        assert caught.value.last_error is not None
        assert caught.value.estimated_spend is None  # nothing that was seen had any money in it


async def test_errors_without_an_instance_do_not_resume() -> None:
    simulator = Simulator(provisioning=SLOW)
    with pytest.raises(CustodyError) as caught:
        async with session_on(simulator, close_timeout=1) as fluence:
            with anyio.move_on_after(5):
                await fluence.deploy_and_wait(container_spec(simulator))
    with pytest.raises(ConfigError):
        await caught.value.resume()
    with pytest.raises(ConfigError):
        await caught.value.terminate()


@pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
async def test_a_pickled_error_has_no_session_or_secret(copied: Any) -> None:
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0, network_delay=900))
    spec = container_spec(
        simulator,
        environment={"HF_TOKEN": SECRET},
        startup_command=f"run {SECRET}",
        ssh_key=f"{SSH_KEY} {SECRET}",
        credentials=RegistryCredentials("ghcr.io", "me", SECRET),
    )
    async with session_on(simulator) as fluence:
        with pytest.raises(WaitTimeoutError) as caught:
            await fluence.deploy_and_wait(spec, until=Until.READY, timeout=60, on_failure="keep")
        error = caught.value
        assert isinstance(error.last_seen, Container)
        assert error.last_seen.container_info.environment["HF_TOKEN"] == SECRET  # for whoever has the session
        other = copied(error)
        assert type(other) is WaitTimeoutError
        assert (str(other), other.ref, other.timeline) == (str(error), error.ref, error.timeline)
        assert other.estimated_spend == error.estimated_spend == simulator.spent()
        assert isinstance(other.last_seen, Container)
        assert set(other.last_seen.container_info.environment) >= {"HF_TOKEN"}
        assert SECRET.encode() not in pickle.dumps(error)
        assert SECRET not in repr(vars(error))
        for way_on in (other.resume, other.terminate):
            with pytest.raises(ConfigError):
                await way_on()
        await error.terminate()


async def test_a_machine_s_ssh_key_stays_behind_as_well() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        machine = await fluence.deploy_and_wait(vm_spec(simulator, ssh_key=f"{SSH_KEY} {SECRET}"))
        assert SECRET.encode() in pickle.dumps(machine)
        await fluence.terminate_and_wait(machine)
        with pytest.raises(InstanceEndedError) as caught:
            await fluence.wait(machine)
        assert SECRET.encode() not in pickle.dumps(caught.value)
        assert caught.value.estimated_spend is not None
        assert abs(caught.value.estimated_spend - simulator.spent()) <= HALF_A_CENT


async def test_the_spend_counts_the_clock_hours_begun() -> None:
    simulator = Simulator(start=datetime(2026, 1, 1, 9, 30, tzinfo=UTC))
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        for minutes in (10, 31, 60, 95):
            await anyio.sleep(minutes * 60)
            await fluence.containers.list()
            assert estimate_spend(container, simulator.time) == simulator.spent() > 0
        assert estimate_spend(container, None) == container.billing.total_spendings
        unpaid = attrs.evolve(container.billing, next_billing_period=None)
        assert estimate_spend(attrs.evolve(container, billing=unpaid), simulator.time) == Decimal("0.14")
        (row,) = await fluence.containers.list()
        assert estimate_spend(row, simulator.time) is None


async def test_service_text_cannot_forge_terminal_lines() -> None:
    nasty = "wrong\x1b[2J\u202e\r\nINFO all is well"
    refused = RefusedError(nasty, status=400, call="GET /gpu/plans/")
    assert str(refused) == "GET /gpu/plans/: wrong [2J   INFO all is well [HTTP 400]"
    assert refused.detail == nasty
    failed = InstanceFailedError("exp-1 failed")
    failed.logs = (LogLine(raw=nasty, pod=None, text=nasty),)
    assert str(failed) == "exp-1 failed\n  wrong [2J   INFO all is well"
