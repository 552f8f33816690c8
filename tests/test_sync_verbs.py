"""Each verb without async sends the requests of the async verb, with the same arguments."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs

from aiofluence import ContainerUpdate, Event, LogLine, Poll, Retry, ServerError, Session, sync
from aiofluence.http.messages import Reply, Request
from aiofluence.simulator import (
    DEFAULT_API_KEY,
    ClusterOptions,
    Fault,
    Provisioning,
    Simulator,
    SimulatorWire,
)

from .harness import FAST, baremetal_spec, container_spec, vm_spec

QUICK = Provisioning(0.01, 0.0, start_delay=0.01, network_delay=0.01, domain_delay=0.01, update_delay=0.01)


class RecordingWire(SimulatorWire):
    """Wire to the simulator that keeps a copy of each request."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator, latency=0.001)
        self.sent: list[Request] = []

    async def send(self, request: Request) -> Reply:
        self.sent.append(request)
        return await super().send(request)


@attrs.frozen
class Use:
    """A call of a verb: its name from the session on, and its arguments."""

    verb: str
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = attrs.field(factory=dict)


FILTER = {
    "gpu": "rtx4090",
    "gpu_count": 1,
    "location": "US",
    "max_hourly": "9.5",
    "min_cpus": 1,
    "min_memory": "1Gi",
    "min_storage": "1Gi",
    "min_vram": "1Gi",
}


def uses(simulator: Simulator, ids: dict[str, str]) -> Iterator[Use]:
    """Yield a use of every verb. `ids` has the id of one ACTIVE instance of each kind."""
    for verb in ("plans.containers", "plans.vms", "plans.baremetal", "images.list"):
        yield Use(verb)
    for verb in ("plans.find", "plans.cheapest"):
        yield Use(verb, (), {"kind": "container", **FILTER})
        yield Use(verb, (), {"kind": "vm", "provider": simulator.catalog.find("vm").provider})
    yield Use("account.balance")
    yield Use("account.permissions")
    specs = {"containers": container_spec, "vms": vm_spec, "baremetal": baremetal_spec}
    for kind, id in ids.items():
        yield Use(f"{kind}.list", (), {"live": True})
        yield Use(f"{kind}.get", (id,))
        yield Use(f"{kind}.get", (), {"name": kind})
        yield Use(f"{kind}.deploy", (specs[kind](simulator, f"{kind}-2"),))
        yield Use(f"{kind}.post", (specs[kind](simulator, f"{kind}-3"),))
        if kind == "containers":
            yield Use(f"{kind}.logs", (id,), {"last": 3})
            yield Use(f"{kind}.events", (id,), {"last": 2})
            yield Use(f"{kind}.update", (id, ContainerUpdate(name="renamed", image="nginx:1.27")))
        else:
            yield Use(f"{kind}.rename", (id, "renamed"))
        yield Use(f"{kind}.terminate", (id,))
    yield Use("request", ("GET", "/gpu/plans/"), {"query": {"a": "b"}})
    yield Use("request", ("POST", "/gpu/instances/"), {"json": {"name": "x"}})


def shape(value: Any) -> Any:
    """Return what two runs on equal simulators have in common: ids and amounts, but no times or lines."""
    if isinstance(value, Exception):
        return type(value), str(value)
    if isinstance(value, list):
        return type(value), [shape(each) for each in value if not isinstance(each, Event | LogLine)]
    for name in ("id", "plan_id", "status"):
        if hasattr(value, name):
            return type(value), getattr(value, name)
    return value


Run = list[tuple[str, list[tuple[str, str, dict[str, str], bytes]], Any]]


def simulator_and_wire() -> tuple[Simulator, RecordingWire, dict[str, Any]]:
    simulator = Simulator(profile="kind", provisioning=QUICK)
    wire = RecordingWire(simulator)
    return simulator, wire, {"wire": wire, "rate": FAST, "poll": Poll(interval=0.01)}


def sent_by(wire: RecordingWire) -> list[tuple[str, str, dict[str, str], bytes]]:
    sent = [(each.method, each.path, dict(each.query), each.body) for each in wire.sent]
    wire.sent.clear()
    return sorted(sent, key=repr)  # the lists of three kinds are requested at once


async def use_all(session: Any, simulator: Simulator, wire: RecordingWire) -> Run:
    """Use every verb of a session of either sort."""

    async def done(verb: str, *args: Any, **options: Any) -> Any:
        found = session
        for name in verb.split("."):
            found = getattr(found, name)
        result = found(*args, **options)
        return await result if inspect.isawaitable(result) else result

    ids = {}
    for kind, spec in (("containers", container_spec), ("vms", vm_spec), ("baremetal", baremetal_spec)):
        ids[kind] = (await done("deploy_and_wait", spec(simulator, kind))).id
    sent_by(wire)
    run: Run = []
    for use in uses(simulator, ids):
        try:
            result = await done(use.verb, *use.args, **use.options)
        except Exception as error:
            result = error
        run.append((use.verb, sent_by(wire), shape(result)))
    return run


async def use_all_async() -> Run:
    simulator, wire, options = simulator_and_wire()
    async with Session(DEFAULT_API_KEY, **options) as session:
        return await use_all(session, simulator, wire)


def test_verbs_send_what_async_verbs_send() -> None:
    simulator, wire, options = simulator_and_wire()
    with sync.Session(DEFAULT_API_KEY, **options) as session:
        run = asyncio.run(use_all(session, simulator, wire))
    used = {verb for verb, _, _ in run}
    for name, cls in (
        ("plans", sync.Plans),
        ("images", sync.Images),
        ("account", sync.Account),
        ("containers", sync.Containers),
        ("vms", sync.Machines),
    ):
        verbs = {each for each, _ in inspect.getmembers(cls, inspect.isfunction) if each[0] != "_"}
        assert {f"{name}.{verb}" for verb in verbs} <= used
    assert run == asyncio.run(use_all_async())
    assert all(sent for _, sent, _ in run)


def test_a_launch_is_checked_and_not_deployed() -> None:
    simulator, _, options = simulator_and_wire()
    with sync.Session(DEFAULT_API_KEY, **options) as session:
        session.containers.deploy(container_spec(simulator))
        launch = session.launch(container_spec(simulator, "exp-{i}").many(2), adopt=True)
        (found,) = launch.check()
        assert found.name == "exp-1"
    assert len(simulator.instances()) == 1


def test_a_tail_shows_its_last_error() -> None:
    simulator = Simulator(profile="kind", provisioning=QUICK, cluster=ClusterOptions(log_interval=0.05))
    wire = SimulatorWire(simulator, latency=0.001)
    with sync.Session(
        DEFAULT_API_KEY, wire=wire, rate=FAST, retry=Retry(attempts=1), poll=Poll(interval=0.02)
    ) as session:
        broken, healthy = (
            session.deploy_and_wait(container_spec(simulator, name), until="ready")
            for name in ("broken", "healthy")
        )
        simulator.fail(f"GET /gpu/instances/{broken.id}/logs", Fault.status(500), times=None)
        simulator.fail(f"GET /gpu/instances/{broken.id}/events", Fault.status(500), times=None)
        for tagged in (merged := session.tail_all([broken, healthy])):
            assert tagged.ref == healthy.ref
            if merged.last_errors:
                break
        assert {name: type(error) for name, error in merged.last_errors.items()} == {"broken": ServerError}
        merged.close()
        assert list(merged) == []

        for tail in (session.tail_logs(broken), session.tail_events(broken)):
            assert tail.ref == broken.ref
            got: list[object] = []
            thread = threading.Thread(target=lambda tail=tail, got=got: got.append(next(tail)))
            thread.start()
            while error_of(tail) is None:
                time.sleep(0.005)
            assert isinstance(error_of(tail), ServerError)
            assert got == []
            simulator.clear_faults() if isinstance(tail, sync.EventTail) else simulator.scripts[0].cancel()
            thread.join()
            assert len(got) == 1
            assert error_of(tail) is None
            tail.close()
            assert list(tail) == []


def error_of(tail: sync.LogTail | sync.EventTail) -> object:
    return tail.last_error
