"""The cost of waiting: requests, lag, bytes and CPU per instance, compared with other clients.

Runs against the simulator in virtual time, except for the part `http`. Run all parts, or some:
`python benchmarks/launch.py policies shapes truths limits list memory http`. docs/waiting.md has the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import re
import statistics
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import attrs

from aiofluence import ContainerSpec, InstanceRef, Kind, Poll, RateLimit, Session, Status
from aiofluence.http.messages import Reply, Request
from aiofluence.simulator import (
    DEFAULT_API_KEY,
    KIND,
    LIKELY,
    Provisioning,
    ServerRateLimit,
    Simulator,
    SimulatorWire,
    run_virtual,
)

NO_LIMIT = RateLimit(per_second=1e6, burst=10**6)
LATER = 1e7  # seconds: nothing changes an instance after ACTIVE, so `updated_at` is the time of ACTIVE


@attrs.frozen
class Shape(Provisioning):
    """A distribution of provisioning times."""

    pick: Callable[[Random], float] = attrs.field(kw_only=True)

    def draw(self, rng: Random) -> float:
        return max(1.0, self.pick(rng))


def shape(pick: Callable[[Random], float]) -> Shape:
    return Shape(median=1.0, start_delay=LATER, network_delay=LATER, pick=pick)


def lognormal(sigma: float) -> Callable[[Random], float]:
    return lambda rng: 150 * math.exp(rng.gauss(0, sigma))


def shared(seed: int) -> Callable[[Random], float]:
    common = lognormal(0.25)(Random(seed))
    return lambda rng: common + rng.gauss(0, 1)


SHAPES: dict[str, Callable[[int], Callable[[Random], float]]] = {
    "lognormal, narrow": lambda seed: lognormal(0.25),
    "lognormal, wide": lambda seed: lognormal(0.6),
    "two modes": lambda seed: lambda rng: rng.gauss(90, 8) if rng.random() < 0.5 else rng.gauss(240, 20),
    "one for the batch": shared,
    "heavy tail": lambda seed: lambda rng: 100 * rng.paretovariate(2.0),
    "constant": lambda seed: lambda rng: 150.0,
    "uniform": lambda seed: lambda rng: rng.uniform(60, 300),
}


PROFILES = {"likely": LIKELY.replace(capacity=None), "kind": KIND}
"""The simulator's profiles. Plans are not sold out, because launches of thousands are measured."""
profile = PROFILES["likely"]


class Meter(Simulator):
    """A simulator that counts the bytes of its replies and the CPU time that is not the client's."""

    sent = 0
    cpu = 0.0

    def receive(self, request: Request, now: float) -> Any:
        began = time.process_time()
        outcome = super().receive(request, now)
        if request.method == "GET" and outcome.reply is not None:
            self.sent += len(outcome.reply.body)
        self.cpu += time.process_time() - began
        return outcome


@attrs.frozen
class Figures:
    """Figures per instance: requests besides the POST, lag from ACTIVE to handed over, bytes, client CPU."""

    requests: float
    mean: float
    p95: float
    kilobytes: float
    cpu: float
    polls: float
    span: float
    """Seconds from the start until the last instance was handed over."""
    ready: float
    """Seconds from the start until the last instance was ACTIVE."""
    refusals: int = 0


Policy = Callable[[Session, list[ContainerSpec], Callable[[str], None]], Awaitable[None]]


async def ours(session: Session, specs: list[ContainerSpec], handed: Callable[[str], None]) -> None:
    async def one(spec: ContainerSpec) -> None:
        handed((await session.deploy_and_wait(spec, timeout=None)).id)

    async with asyncio.TaskGroup() as group:
        for spec in specs:
            group.create_task(one(spec))


def gets(first: float, last: float, factor: float = 1.0) -> Policy:
    """GET each instance alone, first after `first` seconds, then `factor` times less often, up to `last`."""

    async def policy(session: Session, specs: list[ContainerSpec], handed: Callable[[str], None]) -> None:
        async def one(spec: ContainerSpec) -> None:
            ref = await session.containers.deploy(spec)
            gap = first
            while True:
                await asyncio.sleep(gap)
                gap = min(gap * factor, last)
                if (await session.containers.get(ref.id)).status is Status.ACTIVE:
                    return handed(ref.id)

        async with asyncio.TaskGroup() as group:
            for spec in specs:
                group.create_task(one(spec))

    return policy


def lists(every: float, phase: float = 1.0) -> Policy:
    """LIST at every interval, and GET each ACTIVE instance. The first LIST is after `phase` intervals."""

    async def policy(session: Session, specs: list[ContainerSpec], handed: Callable[[str], None]) -> None:
        missing = {ref.id for ref in await asyncio.gather(*map(session.containers.deploy, specs))}

        async def detail(id: str) -> None:
            await session.containers.get(id)
            handed(id)

        async with asyncio.TaskGroup() as group:
            await asyncio.sleep(every * (phase - 1) % every)
            while missing:
                await asyncio.sleep(every)
                rows = await session.containers.list()
                for row in rows:
                    if row.id in missing and row.status is Status.ACTIVE:
                        missing.discard(row.id)
                        group.create_task(detail(row.id))

    return policy


def measure(
    policy: Policy,
    number: int,
    *,
    pick: Callable[[Random], float],
    seed: int = 0,
    history: int = 0,
    rate: RateLimit = NO_LIMIT,
    limit: ServerRateLimit | None = None,
    poll: Poll | None = None,
    before: Sequence[int] = (),
) -> Figures:
    """Launch `number` instances in virtual time, in a session that has launched those of `before`."""
    simulator = Meter(seed, balance=10**9, provisioning=shape(pick), rate_limit=limit, profile=profile)
    simulator.add_ended(history)
    handed: dict[str, float] = {}
    cpu = [0.0, 0.0]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wire = SimulatorWire(simulator)
        async with Session(DEFAULT_API_KEY, wire=wire, rate=rate, max_in_flight=10_000, poll=poll) as session:
            for earlier in before:
                await policy(session, specs(simulator, earlier), lambda id: None)
            simulator.requests.clear()
            launching = asyncio.ensure_future(
                policy(session, specs(simulator, number), lambda id: handed.__setitem__(id, loop.time()))
            )
            await asyncio.sleep(0.1)  # without a limit, every POST is done, and the rest is the wait
            cpu[0] = time.process_time() - simulator.cpu
            await launching
            cpu[1] = time.process_time() - simulator.cpu

    gc.collect()
    gc.disable()  # a collection would be charged to the code that allocates at that moment
    try:
        run_virtual(main)
    finally:
        gc.enable()
    return figures(simulator, handed, number, cpu[1] - cpu[0])


def specs(simulator: Simulator, number: int) -> list[ContainerSpec]:
    plan = simulator.catalog.find("container").id
    return [
        ContainerSpec(name=f"exp-{n}", plan_id=plan, image="ollama/ollama:0.6.5", expose=[11434])
        for n in range(number)
    ]


def figures(simulator: Meter, handed: dict[str, float], number: int, cpu: float) -> Figures:
    active = {id: simulator.get_instance(id).updated_at for id in handed}
    lags = sorted(handed[id] - active[id] for id in handed)
    polls = simulator.count("GET /gpu/instances/")
    requests = polls + simulator.count("GET /gpu/instances/{id}")
    assert len(lags) == number
    return Figures(
        requests / number,
        statistics.fmean(lags),
        lags[math.ceil(0.95 * number) - 1],
        simulator.sent / number / 1000,
        cpu / number * 1000,
        requests - number,
        max(handed.values()),
        max(active.values()),
        sum(request.status == 429 for request in simulator.requests),
    )


def mean(runs: list[Figures]) -> Figures:
    columns = zip(*map(attrs.astuple, runs), strict=True)
    return Figures(*map(statistics.fmean, columns))  # type: ignore[arg-type]


def row(name: str, *cells: str) -> None:
    print(f"| {name:<34} |", " | ".join(f"{cell:>9}" for cell in cells), "|", flush=True)


def heading(title: str, *cells: str) -> None:
    print(f"\n### {title}\n")
    row("", *cells)
    print(f"|{'-' * 36}|" + "|".join(["-" * 10 + ":"] * len(cells)) + "|")


RUNS = {1: 100, 50: 8, 200: 5, 1000: 2, 10_000: 1}


def part_policies(numbers: list[int]) -> None:
    """Measure every policy, for every number of instances and every length of history."""
    others: dict[str, Policy] = {
        "GET each, every 1 s": gets(1, 1),
        "GET each, every 5 s (runpod, Linode)": gets(5, 5),
        "GET each, every 15 s (EC2)": gets(15, 15),
        "GET each, 0.2 to 10 s (Terraform)": gets(0.2, 10, 2),
        "LIST every 5 s": lists(5),
    }
    for number in numbers:
        for history in (0, 1000, 10_000):
            heading(
                f"{number} instances, {history} ended before",
                *("requests", "mean lag", "p95 lag", "kB", "CPU ms"),
            )
            for name, policy in {"aiofluence": ours, **others}.items():
                if policy is not ours and (
                    number > 1000 or (history and policy is not others["LIST every 5 s"])
                ):
                    continue  # history does not change a GET, and 10,000 pollers take an hour
                runs = RUNS[number] if policy is ours else max(1, RUNS[number] // 4)
                if history and number > 1:
                    runs = max(1, runs // 4)
                got = mean(
                    [
                        measure(policy, number, pick=lognormal(0.25), seed=seed, history=history)
                        for seed in range(runs)
                    ]
                )
                show(name, got)
            row("bound: one GET at the right moment", "1.00", "0.02", "0.02", "", "")


def show(name: str, got: Figures) -> None:
    row(
        name,
        f"{got.requests:.2f}",
        f"{got.mean:.2f}",
        f"{got.p95:.2f}",
        f"{got.kilobytes:.1f}",
        f"{got.cpu:.2f}",
    )


def part_shapes(numbers: list[int]) -> None:
    """Compare the mean lag with a LIST at fixed intervals that sends as many requests."""
    for number in numbers:
        if number in (1, 10_000):
            continue
        heading(f"{number} instances, by shape", "requests", "mean lag", "fixed LIST", "ratio")
        ratios = []
        for name, make in SHAPES.items():
            mine, theirs = [], []
            for seed in range(RUNS[number]):
                got = measure(ours, number, pick=make(seed), seed=seed)
                mine.append(got)
                for phase in (0.2, 0.6):  # a fixed gap may happen to hit, or to miss, a fixed time
                    fixed = lists(got.ready / got.polls, phase + 0.08 * seed)
                    theirs.append(measure(fixed, number, pick=make(seed), seed=seed))
            ours_, fixed_ = mean(mine), mean(theirs)
            ratios.append(ours_.mean / fixed_.mean)
            row(name, f"{ours_.requests:.2f}", f"{ours_.mean:.2f}", f"{fixed_.mean:.2f}", f"{ratios[-1]:.2f}")
        row("geometric mean; worst", "", "", f"{statistics.geometric_mean(ratios):.2f}", f"{max(ratios):.2f}")


TRUTHS = (33.0, 72.0, 119.0, 150.0, 400.0)
"""Medians in seconds: a failed VM, a container and a VM from the service's guides, and two other values."""
SPREAD = 0.1


def part_truths(numbers: list[int]) -> None:
    """Measure lag and requests by the provisioning time: without history, and after earlier launches."""
    for number in numbers:
        if number not in (1, 50):
            continue
        heading(
            f"{number} instances until ACTIVE, spread {SPREAD:.0%}",
            *("first", "requests", "after 5", "requests", "after 50", "requests"),
        )
        for truth in TRUTHS:
            cells = []
            for before in ((), (1,) * 5, (50,)):
                runs = {1: 150, 50: 16}[number] // (5 if before == (50,) and number == 1 else 1)
                got = mean([measure_truth(truth, number, before, run, runs) for run in range(runs)])
                cells += [f"{got.mean:.2f} s", f"{got.requests:.2f}"]
            row(f"{truth:g} s", *cells)


def measure_truth(truth: float, number: int, before: Sequence[int], run: int, runs: int) -> Figures:
    """Measure one launch in a session that has seen launches of `before` instances, one after the other."""
    left = sum(before)

    def pick(rng: Random) -> float:
        nonlocal left
        left -= 1
        deviation = rng.gauss(0, SPREAD)
        if number == 1 and left < 0:  # evenly spread, so that the mean needs fewer runs
            deviation = statistics.NormalDist(0, SPREAD).inv_cdf((run + 0.5) / runs)
        return truth * math.exp(deviation)

    return measure(ours, number, pick=pick, seed=run, before=before)


def part_limits(numbers: list[int]) -> None:
    """Measure 1,000 instances under a rate limit, which the server enforces."""
    number = 1000
    heading(
        f"{number} instances under a limit", "all after", "bound", "ratio", "mean lag", "requests", "429s"
    )
    for per_second in (10.0, 2.0):
        for prefer in ("details", "deploys"):
            got = measure(
                ours,
                number,
                pick=lognormal(0.25),
                rate=RateLimit(per_second=per_second, burst=20),
                limit=ServerRateLimit(per_second, burst=20),
                poll=Poll(prefer=prefer),  # type: ignore[arg-type]
            )
            bound = best(number, per_second, 20)
            row(
                f"{per_second:g}/s, {prefer} first",
                f"{got.span:.0f} s",
                f"{bound:.0f} s",
                f"{got.span / bound:.3f}",
                f"{got.mean:.2f}",
                f"{got.requests:.2f}",
                f"{got.refusals:.0f}",
            )


def best(number: int, per_second: float, burst: int) -> float:
    """Return the lower bound in seconds: all POSTs at the full rate, or all POSTs and GETs at that rate."""
    simulator = Simulator(0, balance=10**9, provisioning=shape(lognormal(0.25)))

    async def main() -> None:
        wire = SimulatorWire(simulator)
        rate = RateLimit(per_second=per_second, burst=burst)
        async with Session(DEFAULT_API_KEY, wire=wire, rate=rate) as session:
            await asyncio.gather(*map(session.containers.deploy, specs(simulator, number)))
            await asyncio.sleep(3600)
            simulator.advance(wire.now())

    run_virtual(main)
    last = max(instance.updated_at for instance in simulator.instances())
    return max(last, (2 * number - burst) / per_second)


@attrs.define
class Canned:
    """A wire that answers a LIST with a fixed body at once, so that only the client is measured."""

    body: bytes = b"[]"
    asked: int = 0

    async def send(self, request: Request) -> Reply:
        self.asked += 1
        await asyncio.sleep(0)
        return Reply(200, {"Date": "Thu, 01 Jan 2026 09:30:00 GMT"}, self.body)

    async def aclose(self) -> None:
        pass


def part_list(numbers: list[int]) -> None:
    """Measure how long a LIST of 10,000 rows blocks the event loop, in real time."""
    number = 10_000
    simulator = Simulator(balance=10**9)
    simulator.add_ended(number)
    wire = Canned(simulator_list(simulator).replace(b"ENDED", b"INITIALIZED"))
    refs = [InstanceRef(Kind.CONTAINER, instance.id, instance.name) for instance in simulator.instances()]
    worst = [0.0]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        poll = Poll(interval=2.0)
        async with Session(DEFAULT_API_KEY, wire=wire, rate=NO_LIMIT, poll=poll) as session:
            waits = [asyncio.ensure_future(session.wait(ref, timeout=None)) for ref in refs]
            for _ in range(4):  # 10,000 tasks begin in one iteration of the loop, which the caller causes
                await asyncio.sleep(0)
            while wire.asked < 3:
                began = loop.time()
                await asyncio.sleep(0)
                worst[0] = max(worst[0], loop.time() - began)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)

    gc.collect()
    gc.disable()  # the caller causes a full collection of 10,000 tasks, too
    asyncio.run(main())
    gc.enable()
    heading("A LIST of 10,000 rows, 10,000 waiting", "held up")
    row("the loop, at most", f"{worst[0] * 1000:.1f} ms")
    began = time.perf_counter()
    Reply(200, {}, wire.body).json()
    row("json.loads of the body alone", f"{(time.perf_counter() - began) * 1000:.1f} ms")


def simulator_list(simulator: Simulator) -> bytes:
    headers = {"X-API-KEY": DEFAULT_API_KEY}
    return simulator.handle(Request("GET", "/gpu/instances/", headers=headers), 0.0).body


def part_memory(numbers: list[int]) -> None:
    """Measure the memory of 10,000 waits, each with its task."""
    number = 10_000
    simulator = Simulator(balance=10**9, provisioning=Provisioning(median=LATER))
    used: list[float] = []

    async def nothing(ref: InstanceRef) -> None:
        await asyncio.get_running_loop().create_future()

    async def hold(refs: list[InstanceRef], make: Callable[[InstanceRef], Any]) -> None:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.ensure_future(make(ref)) for ref in refs]
        await asyncio.sleep(50)
        gc.collect()
        used.append((tracemalloc.get_traced_memory()[0] - before) / number / 1024)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def main() -> None:
        wire = SimulatorWire(simulator)
        async with Session(DEFAULT_API_KEY, wire=wire, rate=NO_LIMIT, max_in_flight=number) as session:
            refs = list(await asyncio.gather(*map(session.containers.deploy, specs(simulator, number))))
            await session.containers.list()  # the simulator caches its rows
            tracemalloc.start()
            await hold(refs, nothing)
            await hold(refs, lambda ref: session.wait(ref, timeout=900))
            tracemalloc.stop()

    run_virtual(main)
    heading(f"Memory of {number} waits", "KiB each")
    row("session.wait, with its task", f"{used[1]:.2f}")
    row("of that, a task that does nothing", f"{used[0]:.2f}")


def part_http(numbers: list[int]) -> None:
    """Measure over real sockets to a server process with fast simulated time. CPU is all of the client's."""
    scale = 8.0  # at a higher speed, their own CPU would slow the pollers
    policies: dict[str, Policy] = {
        "aiofluence": ours,
        "GET each, every 5 s": gets(5 / scale, 5 / scale),
        "LIST every 5 s": lists(5 / scale),
    }
    for number in numbers:
        if number != 200:
            continue
        heading(f"{number} instances over HTTP, {scale:g} times as fast", "requests", "CPU ms", "span")
        for name, policy in policies.items():
            sent, cpu, span = asyncio.run(over_http(policy, number, scale))
            row(name, f"{sent / number:.2f}", f"{cpu / number * 1000:.2f}", f"{span:.0f} s")


async def over_http(policy: Policy, number: int, scale: float) -> tuple[int, float, float]:
    """Return requests and CPU seconds of the client after the POSTs, and simulated seconds in all."""
    arguments = [
        "-m",
        "aiofluence.simulator",
        "--port",
        "0",
        "--time-scale",
        f"{scale}",
        "--balance",
        "1000000",
    ]
    server = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert server.stdout is not None
    url = ""
    while not url:
        found = re.search(rb"http://[0-9.:]+", await server.stdout.readline())
        url = found[0].decode() if found else ""
    sent: list[str] = []
    options: dict[str, Any] = {
        "rate": NO_LIMIT,
        "poll": Poll(interval=10 / scale),
        "on_reply": lambda call, reply: sent.append(call.method),
    }
    loop = asyncio.get_running_loop()
    async with Session(DEFAULT_API_KEY, base_url=url, **options) as session:
        launching = asyncio.ensure_future(policy(session, specs(Simulator(), number), lambda id: None))
        began = loop.time()
        await asyncio.sleep(1)  # every POST is done, and each instance was polled at most twice
        sent.clear()
        cpu = time.process_time()
        await launching
        cpu = time.process_time() - cpu
        span = (loop.time() - began) * scale
    server.terminate()
    await server.wait()
    return len(sent), cpu, span


PARTS: dict[str, Callable[[list[int]], None]] = {
    name.removeprefix("part_"): part for name, part in tuple(globals().items()) if name.startswith("part_")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("-n", type=int, action="append", help="how many instances; may be given again")
    parser.add_argument("--profile", choices=PROFILES, default="likely", help="of the simulator")
    given = parser.parse_args()
    global profile
    profile = PROFILES[given.profile]
    for name in given.parts or PARTS:
        if name not in PARTS:
            parser.error(f"no part {name!r}")
    for name in given.parts or PARTS:
        PARTS[name](given.n or [1, 50, 200, 1000])


if __name__ == "__main__":
    main()
