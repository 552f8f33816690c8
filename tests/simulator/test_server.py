"""The simulator on a socket, through aiohttp's own client."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from aiofluence.simulator import DEFAULT_API_KEY, Effect, Fault, Simulator, SimulatorServer

from .driver import EXACT, Driver

pytestmark = pytest.mark.anyio

DEPLOY = "POST /gpu/instances/"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sim() -> Simulator:
    return Simulator(provisioning=EXACT, profile="kind")


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        SimulatorServer(sim, time_scale=1000.0) as server,
        aiohttp.ClientSession(server.url, headers={"X-API-KEY": DEFAULT_API_KEY}) as session,
    ):
        yield session


async def deploy(client: aiohttp.ClientSession, **options: Any) -> tuple[int, bytes]:
    body = Driver().container_body()
    async with client.post("/gpu/instances/", json=body, **options) as reply:
        return reply.status, await reply.read()


async def test_a_whole_life_over_http(sim: Simulator, client: aiohttp.ClientSession) -> None:
    status, body = await deploy(client)
    assert status == 201
    path = f"/gpu/instances/{json.loads(body)['instance_id']}"

    async def detail() -> Any:
        async with client.get(path) as reply:
            assert reply.status == 200
            assert reply.headers["Content-Type"] == "application/json"
            assert reply.headers["Date"].startswith("Thu, 01 Jan 2026 09:3")
            return await reply.json()

    async with asyncio.timeout(30.0):
        while (await detail())["container_status"] != "STARTED":
            await asyncio.sleep(0.01)
    async with client.get(f"{path}/logs", params={"last": "2"}) as reply:
        assert len(await reply.json()) <= 2
    async with client.delete(path) as reply:
        assert (reply.status, await reply.read()) == (204, b"")
    assert (await detail())["instance_status"] == "ENDED"
    assert not sim.live()


async def test_refusals_redirects_and_strange_paths(client: aiohttp.ClientSession) -> None:
    async with client.post("/gpu/instances/", data=b"{") as reply:
        assert reply.status == 422
    async with client.get("/gpu/plans", headers={"X-API-KEY": "wrong"}) as reply:
        assert reply.status == 403
    async with client.get("/gpu/plans", allow_redirects=False) as reply:
        assert (reply.status, reply.headers["Location"]) == (307, "/gpu/plans/")
    async with client.get("/gpu/plans") as reply:
        assert (reply.status, reply.url.path) == (200, "/gpu/plans/")
    async with client.patch("/gpu/plans/") as reply:
        assert reply.status == 405
    async with client.get("/gpu/instances/a%2Fb/logs") as reply:
        assert reply.status == 404


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_reset_connection(sim: Simulator, client: aiohttp.ClientSession, when: Any) -> None:
    sim.fail(DEPLOY, Fault.reset(), when=when)
    with pytest.raises(aiohttp.ClientConnectionError):
        await deploy(client)
    assert len(sim.live()) == (when == "after")
    assert sim.count(DEPLOY) == 1
    assert (await deploy(client))[0] == 201


async def test_a_refused_connection_is_a_reset_here(sim: Simulator, client: aiohttp.ClientSession) -> None:
    sim.fail(DEPLOY, Fault.refuse())
    with pytest.raises(aiohttp.ClientConnectionError):
        await deploy(client)
    assert not sim.live()


async def test_a_hanging_answer(sim: Simulator, client: aiohttp.ClientSession) -> None:
    sim.fail(DEPLOY, Fault.hang(), when="after")
    with pytest.raises(TimeoutError):
        await deploy(client, timeout=aiohttp.ClientTimeout(total=0.2))
    assert len(sim.live()) == 1
    assert sim.requests[-1].effect is Effect.HANG


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_body_that_is_cut_off(sim: Simulator, client: aiohttp.ClientSession, when: Any) -> None:
    sim.fail(DEPLOY, Fault.cut(), when=when)
    async with client.post("/gpu/instances/", json=Driver().container_body()) as reply:
        assert reply.status == (201 if when == "after" else 200)
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()
    assert len(sim.live()) == (when == "after")


async def test_a_cut_without_a_body_breaks(sim: Simulator) -> None:
    driver = Driver(sim)
    instance_id = driver.active_container()
    sim.advance(200.0)
    operation = "DELETE /gpu/instances/{id}"
    sim.fail(operation, Fault.cut(), when="after")
    async with SimulatorServer(sim) as server:
        # By hand: aiohttp's client would send a DELETE again when the connection breaks.
        reader, writer = await asyncio.open_connection(server.host, server.port)
        head = (
            f"DELETE /gpu/instances/{instance_id} HTTP/1.1\r\nHost: x\r\nX-API-KEY: {DEFAULT_API_KEY}\r\n\r\n"
        )
        writer.write(head.encode())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert not sim.live()
    assert sim.count(operation) == 1


async def test_other_statuses_headers_and_bodies(sim: Simulator, client: aiohttp.ClientSession) -> None:
    sim.fail(DEPLOY, Fault.status(502), when="after")
    status, body = await deploy(client)
    assert status == 502
    assert body.startswith(b"<html>")
    sim.fail(DEPLOY, Fault.status(429, b"", {"Retry-After": "7", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}))
    async with client.post("/gpu/instances/", json={}) as reply:
        assert (reply.status, await reply.read()) == (429, b"")
        assert reply.headers["Retry-After"] == "7"
        assert reply.headers.getall("Date") == ["Thu, 01 Jan 2026 00:00:00 GMT"]
    assert len(sim.live()) == 1


async def test_a_slow_answer(sim: Simulator, client: aiohttp.ClientSession) -> None:
    sim.fail(DEPLOY, Fault.slow(200.0))  # 0.2 s of ours
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await deploy(client))[0] == 201
    assert loop.time() - began >= 0.2


async def test_closing_lets_nobody_hang(sim: Simulator) -> None:
    sim.fail("*", Fault.hang())
    async with SimulatorServer(sim) as server, aiohttp.ClientSession(server.url) as client:
        hanging = asyncio.create_task(client.get("/gpu/plans/"))
        async with asyncio.timeout(30.0):
            while not sim.count():
                await asyncio.sleep(0.01)
            await server.__aexit__(None, None, None)
            with pytest.raises(aiohttp.ClientConnectionError):
                await hanging


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_it_listens_to_others_only_when_told(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        SimulatorServer(Simulator(), host)


async def plans_at(server: SimulatorServer, host: str) -> int:
    url = f"http://{host}:{server.port}/gpu/plans/"
    async with aiohttp.ClientSession(headers={"X-API-KEY": DEFAULT_API_KEY}) as client:
        async with client.get(url) as reply:
            return reply.status


async def test_told_to_it_listens_on_every_address(sim: Simulator) -> None:
    async with SimulatorServer(sim, "0.0.0.0", allow_remote=True) as server:
        assert await plans_at(server, "127.0.0.1") == 200
    assert sim.count("GET /gpu/plans/") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
async def test_loopback_has_several_names(sim: Simulator, host: str) -> None:
    in_url = f"[{host}]" if ":" in host else host
    try:
        async with SimulatorServer(sim, host) as server:
            assert server.url == f"http://{in_url}:{server.port}"
            assert await plans_at(server, in_url) == 200
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        pytest.skip(f"this machine has no {host}")
    assert sim.count("GET /gpu/plans/") == 1


async def test_a_port_in_use_is_an_oserror(sim: Simulator) -> None:
    async with SimulatorServer(sim) as server:
        with pytest.raises(OSError, match=r"(?i)address|use"):
            await SimulatorServer(sim, port=server.port).__aenter__()
