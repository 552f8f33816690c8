"""The control API under `/_sim/`, as a test in another language would use it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from aiofluence.simulator import (
    DEFAULT_API_KEY,
    LIKELY,
    ClusterOptions,
    Fault,
    Program,
    ServerRateLimit,
    Simulator,
    SimulatorServer,
    run_virtual,
)

from .driver import EXACT, Driver, request

pytestmark = pytest.mark.anyio

DEPLOY = "POST /gpu/instances/"
KEY = {"X-API-KEY": DEFAULT_API_KEY}


@pytest.fixture
def sim() -> Simulator:
    return Simulator(3, provisioning=EXACT, profile="kind")


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with SimulatorServer(sim) as server, aiohttp.ClientSession(server.url) as session:
        yield session


async def ask(client: aiohttp.ClientSession, method: str, name: str, body: Any = None) -> tuple[int, Any]:
    """Without a key; bytes go as they are."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    async with client.request(method, f"/_sim/{name}", data=data) as reply:
        assert reply.headers["Content-Type"] == "application/json"
        return reply.status, await reply.json()


async def good(client: aiohttp.ClientSession, method: str, name: str, body: Any = None) -> Any:
    status, answer = await ask(client, method, name, body)
    assert status == 200, answer
    return answer


async def deploy(client: aiohttp.ClientSession, name: str = "job") -> int:
    async with client.post("/gpu/instances/", json=Driver().container_body(name), headers=KEY) as reply:
        await reply.read()
        return reply.status


async def test_the_clock_moves_when_told(sim: Simulator, client: aiohttp.ClientSession) -> None:
    await deploy(client)
    before = await good(client, "GET", "state")
    assert [i["status"] for i in before["instances"]] == ["INITIALIZED"]
    clock = await good(client, "POST", "clock", {"advance": 100})
    assert 100 <= clock["now"] < 130
    assert clock["time"].startswith("2026-01-01T09:31:4")
    async with client.get("/gpu/instances/", headers=KEY) as reply:
        (row,) = await reply.json()
    assert row["instance_status"] == "ACTIVE"
    # It goes on from there, for whoever asks.
    assert (await good(client, "GET", "state"))["now"] >= clock["now"]
    assert sim.now >= clock["now"]


async def test_the_clock_can_run_faster(client: aiohttp.ClientSession) -> None:
    fast = await good(client, "POST", "clock", {"scale": 100_000})
    assert fast["scale"] == 100_000
    while (await good(client, "GET", "state"))["now"] < fast["now"] + 2_000.0:
        pass
    slow = await good(client, "POST", "clock", {"scale": 0.001, "advance": 5})
    assert slow["scale"] == 0.001
    assert (await good(client, "GET", "state"))["now"] < slow["now"] + 1.0


def test_a_new_pace_and_an_overtaken_clock(sim: Simulator) -> None:
    async def run() -> None:
        seconds = []
        async with SimulatorServer(sim) as server:
            server.now()
            for scale, wait in ((1000.0, 10.0), (1.0, 100.0), (1000.0, 1.0)):
                server.rescale(scale)
                await asyncio.sleep(wait)
                seconds.append(server.now())
            assert seconds == pytest.approx([10_000.0, 10_100.0, 11_100.0])
            sim.advance(50_000.0)
            assert server.now() == pytest.approx(50_000.0)
            await asyncio.sleep(1.0)
            assert server.now() == pytest.approx(51_000.0)

    run_virtual(run)


async def test_a_reset_begins_anew(sim: Simulator, client: aiohttp.ClientSession) -> None:
    await good(client, "POST", "faults", {"operation": "*", "fault": "hang", "skip": 1})
    await good(client, "POST", "clock", {"advance": 5000, "scale": 50})
    await deploy(client)
    sim.rate_limit = None
    sim.list_lag = 3.0
    state = await good(client, "POST", "reset")
    assert (state["instances"], state["faults"], state["scale"], state["seed"]) == ([], [], 1.0, 3)
    assert state["now"] < 60
    assert (state["balance"], state["spent"]) == ("1000", "0")
    assert await good(client, "GET", "trace") == {"requests": []}
    assert (await good(client, "GET", "ledger"))["entries"] == []
    assert sim.list_lag == 0.0


async def test_equal_seeds_give_equal_runs(client: aiohttp.ClientSession) -> None:
    ids = []
    for seed in (7, 7, 8):
        assert (await good(client, "POST", "reset", {"seed": seed}))["seed"] == seed
        await deploy(client)
        ids.append((await good(client, "GET", "state"))["instances"][0]["id"])
    assert ids[0] == ids[1] != ids[2]
    await good(client, "POST", "reset", {"seed": 1})
    assert await good(client, "POST", "seed", {"seed": 7}) == {"seed": 7}
    await deploy(client)
    assert (await good(client, "GET", "state"))["instances"][0]["id"] == ids[0]


async def test_a_fault_after_the_commit(client: aiohttp.ClientSession) -> None:
    fault = {"operation": DEPLOY, "fault": "reset", "when": "after"}
    assert (await good(client, "POST", "faults", fault))["faults"] == [
        {**fault, "times": 1, "skip": 0, "commit_after": None, "struck": 0}
    ]
    with pytest.raises(aiohttp.ClientConnectionError):
        await deploy(client)
    state = await good(client, "GET", "state")
    assert (len(state["instances"]), state["faults"]) == (1, [])
    seen = (await good(client, "GET", "trace"))["requests"]
    assert [(r["method"], r["operation"], r["effect"]) for r in seen] == [("POST", DEPLOY, "reset")]


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ({"fault": "status", "code": 503, "headers": {"Retry-After": "7"}}, 503, "<html>"),
        ({"fault": "status", "code": 400, "body": {"detail": "no"}}, 400, '{"detail": "no"}'),
        ({"fault": "body", "body": []}, 200, "[]"),
        ({"fault": "slow", "seconds": 0.01}, 201, "instance_id"),
    ],
)
async def test_faults_that_answer(client: aiohttp.ClientSession, fault: Any, status: int, text: str) -> None:
    await good(client, "POST", "faults", {"operation": DEPLOY, "times": 2, **fault})
    for _ in range(2):
        async with client.post("/gpu/instances/", json=Driver().container_body(), headers=KEY) as reply:
            assert (reply.status, text in await reply.text()) == (status, True)
            assert reply.headers.get("Retry-After") == (fault.get("headers") or {}).get("Retry-After")
    assert await deploy(client) == 201


@pytest.mark.parametrize("kind", ["cut", "refuse"])
async def test_faults_that_break_the_connection(client: aiohttp.ClientSession, kind: str) -> None:
    await good(client, "POST", "faults", {"operation": DEPLOY, "fault": kind, "times": None})
    for _ in range(3):
        with pytest.raises(aiohttp.ClientError):
            await deploy(client)
    assert (await good(client, "DELETE", "faults"))["faults"] == []
    assert await deploy(client) == 201


async def test_a_deploy_that_commits_late(client: aiohttp.ClientSession) -> None:
    late = {"operation": DEPLOY, "fault": "status", "code": 504, "commit_after": 20}
    await good(client, "POST", "faults", late)
    assert await deploy(client) == 504
    assert (await good(client, "GET", "state"))["instances"] == []
    await good(client, "POST", "clock", {"advance": 20})
    assert len((await good(client, "GET", "state"))["instances"]) == 1


async def test_the_ledger_and_the_state_are_exact(client: aiohttp.ClientSession) -> None:
    await deploy(client)
    ledger = await good(client, "GET", "ledger")
    (entry,) = ledger["entries"]
    assert entry["kind"] == "deploy"
    assert Decimal(ledger["opening_balance"]) + Decimal(entry["amount"]) == Decimal(ledger["balance"])
    state = await good(client, "GET", "state")
    (instance,) = state["instances"]
    assert (instance["kind"], instance["name"]) == ("container", "job")
    assert Decimal(instance["spent"]) == Decimal(state["spent"]) == Decimal(instance["hourly"])
    assert Decimal(state["spent"]) + Decimal(state["reserved"]) == -Decimal(entry["amount"])
    assert state["balance"] == ledger["balance"] == entry["balance_after"]


@pytest.mark.parametrize(
    ("name", "body", "problems"),
    [
        ("reset", {"seed": "x", "sede": 1}, ["seed: must be an integer", "sede: no such field"]),
        ("reset", {"seed": True}, ["seed: must be an integer"]),
        ("seed", {}, ["seed: required"]),
        ("seed", {"seed": -1}, ["from 0 to"]),
        ("clock", {"advance": -1, "scale": 0}, ["advance: must be a number from 0", "scale: must be"]),
        ("clock", {"advance": 1e12}, ["advance: must be"]),
        ("clock", b'{"advance": NaN}', ["body: JSON decode error"]),
        ("clock", b"{", ["body: JSON decode error"]),
        ("clock", b"[]", ["body: Input should be a valid dictionary"]),
        ("clock", b"\xff", ["body: JSON decode error"]),
        ("clock", b"[" * 100_000, ["body: JSON decode error"]),
        (
            "faults",
            {
                "operation": "POST /nothing",
                "fault": "boom",
                "times": 0,
                "skip": "1",
                "when": "now",
                "code": 1,
            },
            ["operation: must be such as", "fault: must be one of", "times:", "skip:", "when:"],
        ),
        ("faults", {}, ["operation: required", "fault: required"]),
        ("faults", {"operation": 7, "fault": ["reset"]}, ["operation:", "fault:"]),
        ("faults", {"operation": "*", "fault": "status"}, ["code: required"]),
        ("faults", {"operation": "*", "fault": "status", "code": 99}, ["code: must be an integer from 200"]),
        ("faults", {"operation": "*", "fault": "reset", "code": 500}, ["code: no such field here"]),
        ("faults", {"operation": "*", "fault": "body"}, ["body: required"]),
        ("faults", {"operation": "*", "fault": "slow", "seconds": "1"}, ["seconds: must be a number"]),
        (
            "faults",
            {"operation": "*", "fault": "status", "code": 500, "headers": {"a\n": "x"}},
            ["headers: must be an object"],
        ),
        ("faults", {"operation": "*", "fault": "refuse", "when": "after"}, ["never made"]),
        ("faults", {"operation": "*", "fault": "slow", "seconds": 1, "commit_after": 2}, ["commit_after is"]),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, list) else "",
)
async def test_bad_input_names_every_problem(
    sim: Simulator, client: aiohttp.ClientSession, name: str, body: Any, problems: list[str]
) -> None:
    status, answer = await ask(client, "POST", name, body)
    assert status == 400
    assert len(answer["problems"]) == len(problems), answer
    for problem, expected in zip(answer["problems"], problems, strict=True):
        assert expected in problem
    assert not sim.scripts
    assert sim.now < 60


async def test_unknown_paths_and_methods(client: aiohttp.ClientSession) -> None:
    status, answer = await ask(client, "GET", "nothing")
    assert status == 404
    assert "POST /_sim/reset" in answer["problems"][0]
    async with client.get("/_sim/reset") as reply:
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    async with client.get("/_sim") as reply:
        assert reply.status == 403  # the service's own refusal: no key


async def test_the_service_and_its_control_do_not_mix(sim: Simulator, client: aiohttp.ClientSession) -> None:
    sim.fail("*", Fault.status(500), times=None)
    await good(client, "GET", "state")  # no fault strikes it
    assert not sim.requests
    sim.clear_faults()
    sim.rate_limit = ServerRateLimit(0.001, burst=3)
    for _ in range(3):
        await good(client, "GET", "state")
    assert sim.receive(request("GET", "/_sim/state"), 0.0).reply == sim.handle(request("GET", "/none"), 0.0)


async def test_only_this_machine_controls_a_server(sim: Simulator) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        outside = probe.getsockname()[0]
    async with (
        SimulatorServer(sim, "0.0.0.0", allow_remote=True) as server,
        aiohttp.ClientSession(f"http://{outside}:{server.port}") as client,
    ):
        async with client.get("/_sim/state") as reply:
            assert reply.status == 403
        async with client.get("/gpu/plans/", headers=KEY) as reply:
            assert reply.status == 200
        async with client.get(f"http://127.0.0.1:{server.port}/_sim/state") as reply:
            assert reply.status == 200


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost@evil.example"},
    {"Origin": "http://[::1"},
    {"Origin": "http://203.0.113.9"},
    {"Host": "evil.example:8080"},
    {"host": "evil.example"},
    {"Host": "localhost@evil.example"},
    {"Host": "192.168.1.9:8080"},
    {"Host": "evil.example", "Origin": "http://localhost"},
]
CHANGES = [
    ("POST", "reset", b"{}"),
    ("POST", "clock", b'{"advance": 99}'),
    ("POST", "seed", b'{"seed": 1}'),
    ("POST", "faults", b'{"operation": "*", "fault": "hang"}'),
    ("DELETE", "faults", None),
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_web_page_of_another_site_is_refused(
    sim: Simulator, client: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    await deploy(client)
    sim.fail("GET /gpu/plans/", Fault.status(500))
    before = [(one.id, one.state) for one in sim.instances()]
    reads = [("GET", name, None) for name in ("state", "ledger", "trace")]
    for method, name, data in [*CHANGES, *reads]:
        simple = {"Content-Type": "text/plain", **headers}  # what a browser sends without asking first
        async with client.request(method, f"/_sim/{name}", data=data, headers=simple) as reply:
            assert reply.status == 403
            (problem,) = (await reply.json())["problems"]
            assert "only this machine's own names" in problem
            assert "Access-Control-Allow-Origin" not in reply.headers
    assert [(one.id, one.state) for one in sim.instances()] == before
    assert [script.times for script in sim.scripts] == [1]
    assert sim.seed == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:1"},
        {"Host": "LOCALHOST."},
        {"Host": "sim.localhost"},
        {"Host": "127.0.0.2"},
        {"Host": "[::1]:8080"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:3000", "Host": "localhost"},
    ],
    ids=str,
)
async def test_this_machine_s_own_names_are_taken(
    client: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    async with client.post("/_sim/reset", data=b"{}", headers=headers) as reply:
        assert reply.status == 200


async def test_a_page_without_the_key_is_refused(sim: Simulator, client: aiohttp.ClientSession) -> None:
    evil = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    body = json.dumps(Driver().container_body("job")).encode()
    async with client.post("/gpu/instances/", data=body, headers=evil) as reply:
        assert reply.status in (401, 403)
    async with client.options("/gpu/instances/", headers=evil) as reply:  # as a browser asks
        assert reply.status >= 400
        assert "Access-Control-Allow-Origin" not in reply.headers
    assert not sim.instances()


async def test_two_hosts_are_none(client: aiohttp.ClientSession) -> None:
    port = client._base_url.port if client._base_url else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /_sim/state HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert (await reader.readline()).split()[1] in (b"400", b"403")
    writer.close()


# The profile, programs, stock and the key


async def test_the_profile_changes_field_by_field(sim: Simulator, client: aiohttp.ClientSession) -> None:
    assert (await good(client, "GET", "profile"))["minimum_runtime"] == sim.profile.minimum_runtime
    changed = await good(client, "POST", "profile", {"name": "likely"})
    assert (changed["minimum_runtime"], changed["cluster"]["fold_events"]) == (1200.0, True)
    body = {"minimum_runtime": 60, "cluster": {"fold_events": False}, "capacity": None}
    changed = await good(client, "POST", "profile", body)
    assert (changed["minimum_runtime"], changed["restarts"], changed["capacity"]) == (60, True, None)
    assert sim.profile == LIKELY.replace(minimum_runtime=60, cluster={"fold_events": False}, capacity=None)
    await good(client, "POST", "reset")
    assert sim.profile.provisioning == EXACT


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("profile", {"name": "nice"}, "name: must be one of likely, kind"),
        ("profile", {"name": "likely", "restart": True}, "restart: no such field"),
        ("profile", {"cluster": {"ring": "big"}}, "cluster.ring: 'big' has another type"),
        ("profile", {"top_up_delay": 4000}, "top_up_delay"),
        ("programs", {}, "image: required"),
        ("programs", {"image": "x", "lines": [1], "pullable": 1}, "lines: must be an array of texts"),
        ("programs", {"image": "x", "seconds": -1}, "seconds"),
        ("stock", {"plan_id": "none", "capacity": 1}, 'plan_id: must be the id of a plan, not "none"'),
        ("stock", {"stock": [{"plan_id": 1}, 2]}, "stock.1: Input should be a valid dictionary"),
        ("balance", {"balance": 5}, "balance: must be an amount as text"),
        ("balance", {"balance": "NaN"}, "balance: must be an amount as text"),
        ("clock", {"time": "2026-01-01T09:30:00"}, "time: must be a date and time with a time zone"),
        ("clock", {"time": "9000-01-01T09:30:00Z"}, "time: must be less than ten years ahead"),
        ("logs", {"instance_id": "none", "lines": []}, "instance_id: must be the id of a running container"),
        ("key", {"state": "lost"}, "state: must be one of valid, read-only, expired"),
    ],
)
async def test_what_is_wrong_with_them(
    sim: Simulator, client: aiohttp.ClientSession, name: str, body: Any, problem: str
) -> None:
    before = sim.profile
    status, answer = await ask(client, "POST", name, body)
    assert status == 400
    assert problem in answer["problems"][0]
    assert sim.profile == before


async def test_programs_capacity_and_the_key(sim: Simulator, client: aiohttp.ClientSession) -> None:
    program = {"image": "job:1", "seconds": 2, "code": 1, "lines": ["no such file"]}
    shown = await good(client, "POST", "programs", program)
    assert shown == {"programs": [{**program, "pullable": True}]}
    assert sim.programs == {"job:1": Program(2, 1, ("no such file",))}
    plan = sim.catalog.find("container", "rtx4090").id
    await good(client, "POST", "stock", {"plan_id": plan, "capacity": 1})
    assert [await deploy(client, name) for name in ("one", "two")] == [201, 400]
    await good(client, "POST", "key", {"state": "expired"})
    assert await deploy(client, "three") == 403
    await good(client, "POST", "reset")
    assert (sim.programs, await deploy(client, "one"), await deploy(client, "two")) == ({}, 201, 201)


async def test_a_plan_can_be_sold_out(sim: Simulator, client: aiohttp.ClientSession) -> None:
    plan = Driver().container_body("job")["plan_id"]
    await good(client, "POST", "stock", {"plan_id": plan, "sold_out": True})
    assert await deploy(client) == 400
    stock = (await good(client, "POST", "stock", {"plan_id": plan, "sold_out": False}))["stock"]
    assert {row["plan_id"] for row in stock} == set(sim.catalog.offers)
    assert not any(row["sold_out"] for row in stock)
    assert await deploy(client) == 201


async def test_the_balance_can_be_set(sim: Simulator, client: aiohttp.ClientSession) -> None:
    assert await good(client, "POST", "balance", {"balance": "0.10"}) == {"balance": "0.10"}
    assert await deploy(client) == 400
    assert [entry.kind for entry in sim.ledger] == ["adjustment"]


async def test_a_container_prints_on_request(sim: Simulator, client: aiohttp.ClientSession) -> None:
    sim.cluster = ClusterOptions(log_interval=None)
    await deploy(client)
    (container,) = sim.live()
    early = {"instance_id": container.id, "lines": ["a"]}
    assert (await ask(client, "POST", "logs", early))[0] == 400  # it does not run yet
    await good(client, "POST", "clock", {"advance": 200})
    shown = await good(client, "POST", "logs", {"instance_id": container.id, "lines": ["epoch 1", "epoch 2"]})
    assert shown == {"logs": [{"instance_id": container.id, "lines": ["epoch 1", "epoch 2"]}]}
    async with client.get(f"/gpu/instances/{container.id}/logs", headers=KEY) as reply:
        assert [line.partition(" ")[2] for line in await reply.json()] == ["epoch 1", "epoch 2"]


async def test_a_reply_can_be_sent_back(sim: Simulator, client: aiohttp.ClientSession) -> None:
    """Every GET whose path has a POST: a new simulator that gets the reply shows the same."""
    plan = sim.catalog.find("container").id
    sim.sell_out(plan)
    sim.set_capacity(plan, None)
    sim.set_balance("7.25")
    sim.key_state = "expired"
    sim.profile = LIKELY.replace(minimum_runtime=60, cluster={"ring": 5})
    sim.programs["job:1"] = Program(2.5, 1, ["no such file"], pullable=False)
    sim.advance(500)
    for fault in (
        *(
            Fault.reset(),
            Fault.cut(),
            Fault.slow(3.5),
            Fault.body([1]),
            Fault.status(503, headers={"A": "b"}),
        ),
        *(Fault.status(200, "<html>"), Fault.status(204), Fault.status(400, {"detail": "no"})),
    ):
        sim.fail(DEPLOY, fault, times=None, skip=2)
    sim.fail("*", Fault.status(500), commit_after=3.0)
    names = ("clock", "seed", "balance", "key", "profile", "programs", "stock", "faults")
    shown = {name: await good(client, "GET", name) for name in names}
    async with SimulatorServer(other := Simulator(4)) as server, aiohttp.ClientSession(server.url) as fresh:
        replies = {name: await good(fresh, "POST", name, shown[name]) for name in names}
        again = {name: await good(fresh, "POST", name, shown[name]) for name in names}
    for moving in (shown, replies, again):
        assert moving.pop("clock")["now"] == pytest.approx(500, abs=30)
    assert replies == shown
    assert again == shown
    assert [script.fault for script in other.scripts] == [script.fault for script in sim.scripts]


async def test_faults_that_never_struck(client: aiohttp.ClientSession) -> None:
    await good(client, "POST", "faults", {"operation": DEPLOY, "fault": "status", "code": 500})
    await good(client, "POST", "faults", {"operation": "GET /gpu/plans/", "fault": "reset"})
    await good(client, "POST", "faults", {"operation": DEPLOY, "fault": "reset", "skip": 7})
    assert await deploy(client) == 500
    warnings = [
        "the fault scripted for 'GET /gpu/plans/' never struck: no such request came",
        "the fault scripted for 'POST /gpu/instances/' never struck: too few such requests came",
    ]
    assert (await good(client, "DELETE", "faults"))["warnings"] == warnings
    assert (await good(client, "POST", "reset"))["warnings"] == []
