"""The cost of one typed call, compared with what a user would otherwise write: `python benchmarks/call.py`.

It measures CPU (user + system) of the client for `session.containers.get(id)`, as a ratio to bare aiohttp
with `.json()`, on loopback with kept-alive connections. Each contender and the server is a separate process.
The contenders take turns, and each round gives one ratio. This is not a test: it never fails.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.metadata
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KEY = "benchmark-key"
ID = "5773b7d1-e85a-42f4-8efd-c2b02d8f6faf"
BASELINE = "aiohttp"
WIDEST = 100

Once = Callable[[], Awaitable[object]]
"""A complete call, including its reply."""


@asynccontextmanager
async def bare_aiohttp(url: str) -> AsyncIterator[Once]:
    """aiohttp as a user would write it: no model, no rate limit, no retry, no bound on the body."""
    import aiohttp

    target = f"{url}/gpu/instances/{ID}"
    headers = {"X-API-KEY": KEY}
    async with aiohttp.ClientSession() as session:

        async def once() -> object:
            async with session.get(target, headers=headers) as response:
                response.raise_for_status()
                return await response.json()

        yield once


@asynccontextmanager
async def aiofluence_session(url: str) -> AsyncIterator[Once]:
    """A typed get. The rate is unlimited, but each call still passes the rate limiter."""
    from aiofluence import Container, RateLimit, Session

    rate = RateLimit(per_second=1e6, burst=1_000_000)
    async with Session(KEY, base_url=url, rate=rate, max_in_flight=WIDEST) as session:
        assert type(await session.containers.get(ID)) is Container
        yield lambda: session.containers.get(ID)


@asynccontextmanager
async def bare_httpx(url: str) -> AsyncIterator[Once]:
    """httpx, as a user would write it."""
    import httpx

    target = f"{url}/gpu/instances/{ID}"
    async with httpx.AsyncClient(headers={"X-API-KEY": KEY}) as client:

        async def once() -> object:
            response = await client.get(target)
            response.raise_for_status()
            return response.json()

        yield once


@asynccontextmanager
async def hcloud_client(url: str) -> AsyncIterator[Once]:
    """A typed get of a cloud's official synchronous client, for the detail of its own server."""
    from hcloud import Client  # type: ignore[import-not-found,unused-ignore]

    client = Client(token=KEY, api_endpoint=f"{url}/v1")

    async def once() -> object:
        return client.servers.get_by_id(42)

    yield once


class _OneAnswer(asyncio.Protocol):
    """A connection that collects one reply at a time, and does not parse it."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._size = 0
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self) -> asyncio.Future[None]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        if not self._size:
            head, _, _ = data.partition(b"\r\n\r\n")
            self._size = len(head) + 4 + int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        self._got += len(data)
        if self._got >= self._size:
            self._got = 0
            self._answer.set_result(None)


@asynccontextmanager
async def bare_protocol(url: str) -> AsyncIterator[Once]:
    """The lower bound: bytes are sent and received, and nothing is parsed."""
    host, port = url.removeprefix("http://").split(":")
    request = f"GET /gpu/instances/{ID} HTTP/1.1\r\nHost: {host}\r\nX-API-KEY: {KEY}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _OneAnswer(request), host, int(port)) for _ in range(WIDEST)]
    idle = [protocol for _, protocol in made]

    async def once() -> None:
        protocol = idle.pop()
        await protocol.ask()
        idle.append(protocol)

    yield once
    for transport, _ in made:
        transport.close()


class Contender:
    """A way to make the call, and the packages that it needs."""

    def __init__(
        self, make: Callable[[str], Any], *needs: str, loop: str = "", without: str = "", widest: int = WIDEST
    ) -> None:
        self.make = make
        self.needs = needs
        self.loop = loop
        self.without = without
        self.widest = widest


CONTENDERS: dict[str, Contender] = {
    BASELINE: Contender(bare_aiohttp),
    "aiofluence": Contender(aiofluence_session, without="orjson"),
    "aiofluence[speed]": Contender(aiofluence_session, "orjson"),
    "aiofluence[speed] + uvloop": Contender(aiofluence_session, "orjson", "uvloop", loop="uvloop"),
    "aiohttp + uvloop": Contender(bare_aiohttp, "uvloop", loop="uvloop"),
    "httpx": Contender(bare_httpx, "httpx"),
    "hcloud": Contender(hcloud_client, "hcloud", widest=1),
    "bare protocol": Contender(bare_protocol),
}


# --- the worker: one contender, which reads from stdin how many calls to make -----------------------------


async def burst(once: Once, calls: int, width: int) -> float:
    """Return the CPU seconds of this process for `calls` calls, `width` at a time."""

    async def some(number: int) -> None:
        for _ in range(number):
            await once()

    gc.collect()
    began = time.process_time()  # user + system, every thread
    if width == 1:
        await some(calls)
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(some(calls // width))
    return time.process_time() - began


def work(name: str, url: str) -> None:
    """Answer each line `calls width` on stdin with the CPU seconds per call."""
    contender = CONTENDERS[name]
    if contender.without:
        sys.modules[contender.without] = None  # type: ignore[assignment]  # as if not installed
    factory = importlib.import_module(contender.loop).new_event_loop if contender.loop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        stack = AsyncExitStack()

        async def enter() -> Once:
            once: Once = await stack.enter_async_context(contender.make(url))
            return once

        once = runner.run(enter())
        print("ready", flush=True)
        for line in sys.stdin:
            calls, width = map(int, line.split())
            print(runner.run(burst(once, calls, width)) / calls, flush=True)
        runner.run(stack.aclose())


# --- the conductor ----------------------------------------------------------------------------------------


@contextmanager
def child(*arguments: str) -> Iterator[Callable[[str], str]]:
    """Run a Python process. Yield a function that sends it a line (if any) and returns its next line."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        out, back = process.stdin, process.stdout
        assert out is not None
        assert back is not None

        def ask(line: str) -> str:
            if line:
                print(line, file=out, flush=True)
            answer = back.readline().strip()
            if not answer:
                raise SystemExit(f"{' '.join(arguments)} has died")
            return answer

        try:
            yield ask
        finally:
            out.close()


Costs = dict[tuple[str, int], list[float]]
"""CPU seconds per call, by contender and width: one entry per round."""


def measure(names: list[str], widths: list[int], generations: int, rounds: int, calls: int) -> Costs:
    """Let the contenders take turns. A generation is a new set of processes."""
    costs: Costs = {(name, width): [] for name in names for width in widths}
    for _ in range(generations):
        with child(str(HERE / "server.py")) as server:
            url = f"http://127.0.0.1:{server('')}"
            with contextmanagers([child(__file__, "--worker", name, url) for name in names]) as workers:
                asks = dict(zip(names, workers, strict=True))
                for ask in asks.values():
                    ask("")  # ready
                for width in widths:
                    able = [name for name in names if width <= CONTENDERS[name].widest]
                    for name in able:
                        asks[name](f"{calls} {width}")  # opens the connections, fills the caches
                    for turn in range(rounds):
                        # The order rotates, so that no contender always runs after the same one.
                        first = turn % len(able)
                        for name in able[first:] + able[:first]:
                            costs[name, width].append(float(asks[name](f"{calls} {width}")))
    return costs


@contextmanager
def contextmanagers(managers: list[Any]) -> Iterator[list[Any]]:
    """Enter all of them."""
    if not managers:
        yield []
        return
    with managers[0] as first, contextmanagers(managers[1:]) as others:
        yield [first, *others]


def report(names: list[str], widths: list[int], costs: Costs) -> None:
    """Print the medians of the per-round ratios, each with the quartiles."""
    columns = [f"client CPU per call, {BASELINE} = 1", *(f"{width} at a time" for width in widths)]
    print(f"\n| {' | '.join(columns)} |")
    print("|---" * (len(widths) + 1) + "|")
    for name in names:
        cells = []
        for width in widths:
            mine, base = costs[name, width], costs[BASELINE, width]
            if not mine:
                cells.append("–")
            elif name == BASELINE:
                cells.append(f"1 ({statistics.median(mine) * 1e6:.0f} µs)")
            else:
                low, middle, high = statistics.quantiles([a / b for a, b in zip(mine, base, strict=True)])
                cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


def missing(name: str) -> str:
    """Return the first package that a contender needs and that is not installed; empty if none is missing."""
    for package in CONTENDERS[name].needs:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return package
    return ""


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "URL"), help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, help="beside the baseline")
    parser.add_argument("--widths", nargs="*", type=int, default=[1, 10, 100], help="calls at a time")
    parser.add_argument("--generations", type=int, default=3, help="fresh sets of processes")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each contender in a generation")
    parser.add_argument("--calls", type=int, default=200, help="calls in a turn")
    given = parser.parse_args()
    if given.worker:
        work(*given.worker)
        return
    wanted = list(CONTENDERS) if given.only is None else [BASELINE, *given.only]
    names = []
    for name in dict.fromkeys(wanted):
        if package := missing(name):
            print(f"{name}: skipped, {package} is not installed")
        else:
            names.append(name)
    packages = ("aiofluence", "aiohttp", "attrs", "cattrs", "yarl", "orjson", "uvloop", "httpx", "hcloud")
    have = importlib.metadata.packages_distributions()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages if name in have]
    print(f"Python {platform.python_version()}, {platform.platform()}; {', '.join(versions)}")
    print(
        f"{given.generations} generations x {given.rounds} rounds x {given.calls} calls; "
        "median of the rounds' ratios (quartiles)"
    )
    report(
        names,
        given.widths,
        measure(names, given.widths, given.generations, given.rounds, given.calls),
    )


if __name__ == "__main__":
    main()
