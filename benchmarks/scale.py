"""Thousands of launches from several processes that share one rate through Redis, against one simulator.

`python -m benchmarks.scale -n 10000`, from the checkout. Needs redis-server. This process runs the
simulator's HTTP server with fast simulated time. Each launcher is a separate process. Figures are in
simulated seconds, except for CPU and memory. This is not a test: it never fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import sys
import time

from aiofluence import ContainerSpec, Poll, RateLimit, RedisRate, Session
from aiofluence.simulator import DEFAULT_API_KEY, Provisioning, Simulator, SimulatorServer
from benchmarks.shared_rate import burst_of, most_in
from tests.shared_rate.server import RedisServer

LATER = 1e7  # seconds: nothing changes an instance after ACTIVE, so `updated_at` is the time of ACTIVE


async def work(url: str, redis: str, number: int, name: str, scale: float, rate: float) -> None:
    """Launch `number` instances in this process, and print the figures."""
    handed: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    plan = Simulator().catalog.find("container").id
    specs = [
        ContainerSpec(name=f"{name}-{n}", plan_id=plan, image="ollama/ollama:0.6.5", expose=[11434])
        for n in range(number)
    ]
    shared = RedisRate(redis, RateLimit(rate, burst=max(1, round(2 * rate))))
    options = {"base_url": url, "rate": shared, "poll": Poll(interval=10 / scale)}
    sent: list[float] = []
    async with Session(
        DEFAULT_API_KEY, **options, on_reply=lambda call, reply: sent.append(loop.time())
    ) as session:
        lateness = asyncio.create_task(watch_loop())
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        began, memory = time.process_time(), peak()
        async with session.launch(specs, timeout=None) as launch:
            async for outcome in launch:
                if outcome.instance is not None:
                    handed[outcome.instance.id] = loop.time()
        cpu = time.process_time() - began
        lateness.cancel()
        await asyncio.wait([lateness])
    figures = {"handed": handed, "sent": sent, "cpu": cpu, "memory": (memory, peak()), "stalls": STALLS}
    print(json.dumps(figures))


STALLS: list[float] = []


async def watch_loop() -> None:
    """Note how late the event loop wakes a sleeper, since a grant may be that late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.05
        await asyncio.sleep(0.05)
        STALLS.append(loop.time() - due)


def peak() -> float:
    """Return the peak memory of this process in MiB."""
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


async def measure(number: int, processes: int, scale: float, rate: float) -> None:
    quiet = Provisioning(start_delay=LATER, network_delay=LATER)
    simulator = Simulator(balance=10**9, provisioning=quiet)
    loop = asyncio.get_running_loop()
    async with RedisServer() as redis, SimulatorServer(simulator, time_scale=scale) as server:
        server.now()  # starts its clock
        workers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.scale", "--scale", str(scale), "--rate", str(rate)),
                *("--work", f"p{place}", "--url", server.url, "--redis", redis.url),
                *("-n", str(number // processes)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**28,
            )
            for place in range(processes)
        ]
        for worker in workers:
            assert worker.stdout is not None
            await worker.stdout.readline()
        began, cpu = loop.time(), time.process_time()
        printed = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
        span, cpu = (loop.time() - began) * scale, time.process_time() - cpu
        stats = await redis.ask("INFO", "commandstats")
        asked = int(stats["cmdstat_evalsha"]["calls"])
        results = [json.loads(output) for output, _ in printed]

        zero = server.now() - loop.time() * scale
        lags = sorted(
            at * scale + zero - simulator.get_instance(id).updated_at
            for one in results
            for id, at in one["handed"].items()
        )
        bodies = len(simulator.live())

    launched = len(lags)
    arrivals = [request.at / scale for request in simulator.requests]
    posts = simulator.count("POST /gpu/instances/")
    lists, gets = simulator.count("GET /gpu/instances/"), simulator.count("GET /gpu/instances/{id}")
    first = min(max(one["handed"].values()) for one in results)
    had = [sum(at <= first for at in one["handed"].values()) for one in results]
    shares = [len(one["sent"]) for one in results]
    stalls = [late for one in results for late in one["stalls"]]
    print(f"{launched} of {number} launched by {processes} processes, {bodies} live")
    print(f"time                       {span:.0f} s, in {span / scale:.0f} s")
    each = len(arrivals) / launched
    print(f"requests an instance       {each:.3f}: {posts} POST, {lists} LIST, {gets} GET")
    used = len(arrivals) / (rate / scale * span)
    print(f"of the budget              {100 * used:.1f} % of {rate / scale:g}/s")
    print(f"in any real second         up to {most_in(arrivals, 1.0)} of {rate:g}")
    print(f"as a burst                 {burst_of(arrivals, rate):.0f} of {round(2 * rate)}")
    p95 = lags[launched * 95 // 100]
    print(f"ready to handed over       mean {statistics.mean(lags):.1f} s, p95 {p95:.1f} s")
    print(f"requests of each           {shares}")
    print(f"when the first was through {had}")
    print(f"Redis was asked            {asked / len(arrivals):.3f} times a request")
    for place, one in enumerate(results):
        before, after = one["memory"]
        cost = f"CPU {1000 * one['cpu'] / len(one['handed']):.2f} ms an instance ({one['cpu']:.1f} s)"
        print(f"process {place}                  {cost}, memory {before:.0f} → {after:.0f} MiB")
    print(f"their loops woke late      p99 {1000 * sorted(stalls)[len(stalls) * 99 // 100]:.0f} ms")
    print(f"simulator                  CPU {cpu:.0f} s, memory {peak():.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="how many instances in all (default: 1000)")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--scale", type=float, default=20.0, help="simulated seconds in one (default: 20)")
    parser.add_argument("--rate", type=float, help="requests a real second (default: 10 a simulated one)")
    for name in ("--work", "--url", "--redis"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    rate = given.rate or 10 * given.scale
    if given.work:
        asyncio.run(work(given.url, given.redis, given.n, given.work, given.scale, rate))
    else:
        asyncio.run(measure(given.n, given.processes, given.scale, rate))


if __name__ == "__main__":
    main()
