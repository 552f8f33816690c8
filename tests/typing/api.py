"""The public surface as a type checker sees it: this file is checked, and never run."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar, assert_type

import attrs

from aiofluence import (
    Balance,
    BareMetalSpec,
    Container,
    ContainerSpec,
    Deployable,
    Eta,
    Event,
    FluenceError,
    InstanceRef,
    Launch,
    LaunchError,
    LaunchProgress,
    LaunchState,
    LifecycleError,
    LogGap,
    LogLine,
    Machine,
    MachineSummary,
    Offer,
    Outcome,
    Report,
    Session,
    Table,
    TaggedLine,
    Until,
    VMSpec,
    WaitTimeoutError,
    sync,
)
from aiofluence.models.specs import Spec

InstanceT = TypeVar("InstanceT", Container, Machine)


def show(event: LaunchProgress) -> None:
    assert_type(event.estimate(), Eta)
    assert_type(event.state, LaunchState)
    assert_type(event.counts["active"], int)
    assert_type(event.eta, float)


async def one_of_each(
    fluence: Session, container: ContainerSpec, vm: VMSpec, baremetal: BareMetalSpec, ref: InstanceRef
) -> None:
    assert_type(await fluence.deploy_and_wait(container), Container)
    assert_type(await fluence.deploy_and_wait(vm), Machine)
    assert_type(await fluence.deploy_and_wait(baremetal, until=Until.READY), Machine)
    assert_type(await fluence.wait(ref), Container | Machine)
    async with fluence.running(container) as inside:
        assert_type(inside, Container)
    async with fluence.running(vm, wait_for_capacity=60) as machine:
        assert_type(machine, Machine)
    assert_type(await fluence.ensure(vm), InstanceRef)
    assert_type(await fluence.ensure(container, until="ready"), Container)
    assert_type(await fluence.containers.get(name="one"), Container)


async def of_any_kind(fluence: Session, spec: Spec, machine: VMSpec | BareMetalSpec) -> None:
    assert_type(await fluence.deploy_and_wait(spec), Container | Machine)
    assert_type(await fluence.deploy_and_wait(machine), Machine)
    assert_type(await fluence.ensure(spec, until=Until.ACTIVE), Container | Machine)
    async with fluence.running(spec) as inside:
        assert_type(inside, Container | Machine)
    async with fluence.running(machine) as inside_machine:
        assert_type(inside_machine, Machine)


async def generic(fluence: Session, spec: Deployable[InstanceT]) -> InstanceT:
    return await fluence.deploy_and_wait(spec)


async def many(fluence: Session, container: ContainerSpec, vm: VMSpec, baremetal: BareMetalSpec) -> None:
    assert_type(container.many(3), list[ContainerSpec])
    assert_type(vm.many(3), list[VMSpec])
    assert_type(baremetal.many(3), list[BareMetalSpec])
    report = await fluence.deploy_all_and_wait(
        container.many(3), min_ready=2, max_hourly="1.50", fallback="plan-2"
    )
    assert_type(report, Report)
    assert_type(report.ready, tuple[Outcome, ...])
    assert_type(report.instances, tuple[Container | Machine, ...])
    assert_type(report.hourly_cost, Decimal)
    offers = await fluence.plans.find()
    async with fluence.launch(
        [container, vm, baremetal],
        max_hourly=Decimal(2),
        fallback=[*offers, "plan-2", lambda spec: attrs.evolve(spec, plan_id="plan-3")],
        on_progress=show,
    ) as launch:
        assert_type(launch, Launch)
        async for outcome in launch:
            assert_type(outcome, Outcome)
            assert_type(outcome.ref, InstanceRef | None)
            assert_type(outcome.instance, Container | Machine | None)
            assert_type(outcome.error, FluenceError | None)
    assert_type(launch.report, Report)


async def tails(fluence: Session, ref: InstanceRef, containers: list[Container]) -> None:
    async for item in fluence.tail_logs(ref, last=10):
        assert_type(item, LogLine | LogGap)
    async for event in fluence.tail_events(ref):
        assert_type(event, Event)
    async for tagged in fluence.tail_all(containers):
        assert_type(tagged, TaggedLine)
        assert_type(tagged.line, LogLine | LogGap)
    await fluence.tail_logs(ref).aclose()


def without_async(
    fluence: sync.Session, container: ContainerSpec, vm: VMSpec, baremetal: BareMetalSpec, ref: InstanceRef
) -> None:
    with fluence as inside:
        assert_type(inside, sync.Session)
    assert_type(fluence.deploy_and_wait(container), Container)
    assert_type(fluence.deploy_and_wait(vm), Machine)
    assert_type(fluence.wait(ref), Container | Machine)
    assert_type(fluence.containers.get("id"), Container)
    assert_type(fluence.vms.list(), Table[MachineSummary])
    assert_type(fluence.baremetal.deploy(baremetal), InstanceRef)
    assert_type(fluence.plans.find(), Table[Offer])
    assert_type(fluence.plans.cheapest(), Offer)
    assert_type(fluence.account.balance(), Balance)
    assert_type(fluence.account.permissions(), tuple[str, ...])
    with fluence.running(container) as running:
        assert_type(running, Container)
    with fluence.launch([container, vm]) as launch:
        assert_type(launch, sync.Launch)
        for outcome in launch:
            assert_type(outcome, Outcome)
    assert_type(launch.report, Report)
    for line in fluence.tail_logs(ref):
        assert_type(line, LogLine | LogGap)


async def errors(error: LifecycleError, timed_out: WaitTimeoutError, off: LaunchError) -> None:
    assert_type(await error.resume(timeout=60), Container | Machine | None)
    await timed_out.terminate()
    assert_type(timed_out.last_error, FluenceError | None)
    assert_type(timed_out.estimated_spend, Decimal | None)
    assert_type(off.report, Report)
