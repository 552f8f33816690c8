"""The session itself: where key and origin come from, what is refused, and the doors it leaves open."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import aiofluence
from aiofluence import (
    AuthError,
    ConfigError,
    ContainerSpec,
    DecodeError,
    NotFoundError,
    NotSentError,
    Poll,
    RateLimit,
    Reply,
    Retry,
    ServerError,
    Session,
    Timeout,
)
from aiofluence.config import find_origin
from aiofluence.http.messages import Request
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Simulator, SimulatorServer, SimulatorWire

from .harness import VIRTUAL, container_spec, session_on


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "API_KEY_FILE", "ACCESS_TOKEN", "BASE_URL", "LOG"):
        monkeypatch.delenv(f"FLUENCE_{name}", raising=False)


async def sent_by(*args: Any, **options: Any) -> dict[str, str]:
    """Return the headers of a request of a session with these arguments."""
    heads: list[dict[str, str]] = []

    class Noting(SimulatorWire):
        async def send(self, request: Request) -> Reply:
            heads.append(dict(request.headers))
            return await super().send(request)

    async with Session(*args, wire=Noting(Simulator()), **options) as fluence:
        with contextlib.suppress(AuthError):
            await fluence.account.balance()
    return heads[0]


async def key_of(*args: str) -> str:
    return (await sent_by(*args))["X-API-KEY"]


async def test_the_three_sources_of_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n")
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", str(file))
    assert await key_of() == "from-file"
    monkeypatch.setenv("FLUENCE_API_KEY", "from-variable")
    assert await key_of() == "from-variable"
    assert await key_of("from-argument") == "from-argument"


async def test_an_access_token_replaces_a_missing_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def credentials(*args: str) -> dict[str, str]:
        headers = await sent_by(*args)
        return {name: headers[name] for name in ("X-API-KEY", "Authorization") if name in headers}

    monkeypatch.setenv("FLUENCE_ACCESS_TOKEN", " token-1\n")
    assert await credentials() == {"Authorization": "Bearer token-1"}
    (tmp_path / "key").write_text("from-file")
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", str(tmp_path / "key"))
    assert await credentials() == {"X-API-KEY": "from-file"}
    monkeypatch.setenv("FLUENCE_API_KEY", "from-variable")
    assert await credentials() == {"X-API-KEY": "from-variable"}
    assert await credentials("from-argument") == {"X-API-KEY": "from-argument"}
    for name in ("FLUENCE_API_KEY", "FLUENCE_API_KEY_FILE"):
        monkeypatch.setenv(name, " ")
    assert await credentials() == {"Authorization": "Bearer token-1"}
    with pytest.raises(ConfigError, match="no API key"):
        Session("")  # a key that was given, and is none, is a mistake
    monkeypatch.setenv("FLUENCE_ACCESS_TOKEN", "two words")
    with pytest.raises(ConfigError, match="FLUENCE_ACCESS_TOKEN holds blanks") as caught:
        Session()
    assert "two words" not in str(caught.value)
    monkeypatch.setenv("FLUENCE_ACCESS_TOKEN", " ")
    with pytest.raises(ConfigError, match="no API key"):
        Session()


@pytest.mark.parametrize("empty", ["", " ", "\r\n"])
async def test_an_empty_variable_hides_no_key_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty: str
) -> None:
    file = tmp_path / "key"
    monkeypatch.setenv("FLUENCE_API_KEY", empty)
    monkeypatch.setenv("FLUENCE_BASE_URL", empty)
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", empty)
    with pytest.raises(ConfigError, match="no API key"):
        Session()
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", str(file))
    for content in (b"from-file", b"from-file\r\n", b"\xef\xbb\xbffrom-file\n"):
        file.write_bytes(content)
        assert await key_of() == "from-file"


def test_a_file_without_a_key_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", str(file))
    for content, said in (
        (b"", "empty file"),
        (b" \n", "empty file"),
        (b"canary-1\r\nX-Evil: 1", "no HTTP header"),
        (b"canary-1\ncanary-2\n", "no HTTP header"),
        (b"canary" * 1000, "longer than"),
        (b"\0" * 10_000_000, "longer than"),
        (b"canary\xff", "not a text file"),
        ("canary".encode("utf-16"), "not a text file"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=f"FLUENCE_API_KEY_FILE .*{said}") as caught:
            Session()
        assert "canary" not in f"{caught.value}"
        assert caught.value.__context__ is None
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be read"):
        Session()


@pytest.mark.parametrize("key", ["", "  ", "a\r\nX-Evil: 1", "two words", "schlüssel", "tab\t", "nul\0"])
async def test_an_invalid_key_is_not_quoted(key: str) -> None:
    if key == "tab\t":
        assert await key_of(key) == "tab"  # a copied key may have blanks around it
        return
    with pytest.raises(ConfigError) as caught:
        Session(key)
    assert key.strip() == "" or key not in str(caught.value)


def test_no_key_says_where_to_put_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FLUENCE_API_KEY"):
        Session()
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="cannot be read"):
        Session()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", str(tmp_path / "binary"))
    with pytest.raises(ConfigError, match="not a text"):
        Session()


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        (None, "https://api.fluence.dev"),
        ("https://api.fluence.dev", "https://api.fluence.dev"),
        ("https://api.fluence.dev/gpu", "https://api.fluence.dev"),
        ("https://api.fluence.dev/gpu/", "https://api.fluence.dev"),
        ("https://Gateway.Example:8443/", "https://gateway.example:8443"),
        ("http://localhost:8080/gpu", "http://localhost:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_origins(given: str | None, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_origin(given, allow_insecure=False) == origin
    if given is not None:
        monkeypatch.setenv("FLUENCE_BASE_URL", given)
        assert find_origin(None, allow_insecure=False) == origin


@pytest.mark.parametrize(
    "given",
    [
        "api.fluence.dev",
        "ftp://api.fluence.dev",
        "https://",
        "https://host:port",
        "https://me:canary@host",
        "https://host/v2",
        "https://host/?key=canary",
        "https://host/#canary",
        "http://api.fluence.dev",
        "http://192.0.2.1",
        "http://127.0.0.1.evil.example",
    ],
)
def test_an_invalid_origin_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^base_url ") as caught:
        Session("key", base_url=given)
    assert "canary" not in str(caught.value)
    monkeypatch.setenv("FLUENCE_BASE_URL", given)
    with pytest.raises(ConfigError, match=r"^FLUENCE_BASE_URL "):
        Session("key")


def test_plain_http_is_a_decision() -> None:
    assert "http://192.0.2.1" in repr(Session("key", base_url="http://192.0.2.1", allow_insecure=True))


@pytest.mark.parametrize("rate", [(0, 1), (-1, 1), (1, 0), (float("inf"), 1), (float("nan"), 1)])
def test_a_rate_that_makes_no_sense(rate: Any) -> None:
    with pytest.raises(ConfigError):
        RateLimit(*rate)


async def test_who_is_asking() -> None:
    agent = (await sent_by(DEFAULT_API_KEY, user_agent_suffix="sweep/1.2"))["User-Agent"]
    assert agent.startswith("aiofluence/")
    assert agent.endswith(" sweep/1.2")
    with pytest.raises(ConfigError, match="user_agent_suffix"):
        Session("key", user_agent_suffix="a\r\nX-Evil: 1")


async def test_request_has_rate_limit_and_retries() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        simulator.fail("GET /gpu/plans/", Fault.status(500), times=2)
        reply = await fluence.request("get", "/gpu/plans/")
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("application/json")
        assert len(reply.json()) == len(await fluence.plans.containers())

        spec = {"name": "by-hand", "plan_id": simulator.catalog.find("container").id}
        spec |= {"container_settings": {"image": "a", "expose": [{"port": "22"}]}}  # type: ignore[dict-item]
        deployed = await fluence.request("POST", "/gpu/instances/", json=spec)
        id = deployed.json()["instance_id"]
        logs = await fluence.request("GET", f"/gpu/instances/{id}/logs", query={"last": 1, "absent": None})
        assert logs.json() == []
        with pytest.raises(NotFoundError):
            await fluence.request("GET", "/gpu/instances/unknown")
        simulator.fail("POST /gpu/instances/", Fault.status(502), times=None)
        with pytest.raises(ServerError):
            await fluence.request("POST", "/gpu/instances/", json=spec)
        with pytest.raises(ConfigError, match="JSON"):
            await fluence.request("POST", "/gpu/instances/", json={"a": float("nan")})
    assert simulator.count("POST /gpu/instances/") == 2
    with pytest.raises(DecodeError):
        Reply(200, {}, b"<html>").json()


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/admin", "gpu/plans/", "/gpu/../admin", "/gpu/plans/?a=1", "/gpu/a b", "/gpuplans"),
        *("//evil.example/gpu/", "https://evil.example/gpu/", "/gpu/a\r\nb", "/gpu/%2e%2e/x", "/gpu//plans"),
    ],
)
async def test_a_path_outside_the_service_is_refused(path: str) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError, match="not a path"):
            await fluence.request("GET", path)
    assert simulator.requests == []


@pytest.mark.parametrize("method", ["", "G ET", "GET /admin", "GET\r\nX-Evil: 1", "ÄT", None])
async def test_a_method_that_is_none_is_refused(method: Any) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError, match="not a method"):
            await fluence.request(method, "/gpu/plans/")
    assert simulator.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        *({"timeout": seconds} for seconds in (0, -1, float("nan"))),
        *({"close_timeout": seconds} for seconds in (-1, float("nan"))),
        *({"max_in_flight": number} for number in (0, float("nan"))),
    ],
)
def test_times_that_make_no_sense(arguments: Any) -> None:
    with pytest.raises(ConfigError):
        Session("key", **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"attempts": 0},
        {"max_refusals": 0},
        *(
            {name: seconds}
            for name in ("base", "max_wait", "max_retry_after")
            for seconds in (-1, float("nan"))
        ),
    ],
)
def test_retries_that_make_no_sense(arguments: Any) -> None:
    with pytest.raises(ConfigError):
        Retry(**arguments)


async def test_with_options_shares_pool_and_custody() -> None:
    simulator = Simulator()
    simulator.fail("GET /gpu/instances/", Fault.status(500), times=None)
    simulator.fail("GET /gpu/instances/vms", Fault.hang(), times=None)
    async with session_on(simulator) as fluence:
        hasty = fluence.with_options(timeout=3, retry=Retry(attempts=1))
        with pytest.raises(ServerError) as caught:
            await hasty.containers.list()
        assert len(caught.value.attempts) == 1
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await hasty.vms.list()
        assert asyncio.get_running_loop().time() - began == pytest.approx(3, abs=0.1)
        with pytest.raises(ServerError) as caught:
            await hasty.with_options(timeout=Timeout(total=9)).containers.list()
        assert len(caught.value.attempts) == 1
        with pytest.raises(ServerError) as caught:
            await fluence.containers.list()
        assert len(caught.value.attempts) == Retry().attempts
        with pytest.raises(TimeoutError):
            await hasty.deploy_and_wait(container_spec(simulator), timeout=5)
        assert repr(hasty) == repr(fluence)
    assert simulator.live() == []  # the copy's custodian is the session's
    assert repr(hasty) == repr(fluence)


async def test_the_raw_reply_of_each_call_can_be_had() -> None:
    simulator = Simulator()
    simulator.fail("GET /gpu/plans/", Fault.status(429, headers={"Retry-After": "1"}))
    seen: list[tuple[str, int, str]] = []
    async with session_on(simulator) as fluence:
        watched = fluence.with_options(
            on_reply=lambda call, reply: seen.append((str(call), reply.status, reply.headers["Date"]))
        )
        await watched.plans.containers()
        await fluence.plans.containers()
        with pytest.raises(NotFoundError):
            await watched.containers.get("unknown")
    assert [(call, status) for call, status, _ in seen] == [
        ("GET /gpu/plans/", 429),
        ("GET /gpu/plans/", 200),
        ("GET /gpu/instances/unknown", 404),
    ]
    assert all(date.endswith("GMT") for _, _, date in seen)


async def test_a_session_does_not_travel() -> None:
    with pytest.raises(TypeError, match="key"):
        pickle.dumps(Session("key"))


@pytest.mark.parametrize("ticks", range(4))
async def test_cancelled_on_entry_a_session_leaves_none(ticks: int, tmp_path: Path) -> None:
    path = tmp_path / "journal"

    async def use() -> None:
        async with session_on(Simulator(), journal=path):
            await asyncio.Event().wait()

    before = asyncio.all_tasks()
    using = asyncio.ensure_future(use())
    for _ in range(ticks):
        await asyncio.sleep(0)
    using.cancel()
    await asyncio.wait([using])
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == before


async def test_enter_and_leave_in_different_tasks() -> None:
    """As the fixtures of some test frameworks do."""
    simulator = Simulator()
    session = session_on(simulator)
    await asyncio.create_task(session.__aenter__())
    ref = await session.containers.deploy(container_spec(simulator))
    await asyncio.create_task(session.__aexit__(None, None, None))
    assert [instance.id for instance in simulator.live()] == [ref.id]


@pytest.fixture
def own_log() -> Iterator[logging.Logger]:
    log = logging.getLogger("aiofluence")
    handlers, level = log.handlers[:], log.level
    yield log
    log.handlers[:] = handlers
    log.setLevel(level)


async def test_the_log_can_be_turned_on_from_outside(
    monkeypatch: pytest.MonkeyPatch, own_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLUENCE_LOG", "debug")
    simulator = Simulator()
    session_on(simulator)
    session = session_on(simulator)  # twice, and yet each line once
    stream = io.StringIO()
    (handler,) = [h for h in own_log.handlers if h.get_name() == "aiofluence-environment"]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    async with session as fluence:
        await fluence.containers.list()
    (line,) = stream.getvalue().splitlines()
    assert "GET /gpu/instances/: 200" in line
    assert DEFAULT_API_KEY not in line
    monkeypatch.setenv("FLUENCE_LOG", "loud")
    with pytest.raises(ConfigError, match="FLUENCE_LOG"):
        session_on(simulator)


async def test_a_real_server_and_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator()
    async with SimulatorServer(simulator) as server:
        monkeypatch.setenv("FLUENCE_API_KEY", DEFAULT_API_KEY)
        monkeypatch.setenv("FLUENCE_BASE_URL", f"{server.url}/gpu")
        async with Session() as fluence:
            assert await fluence.plans.containers()


async def test_live_instances_and_get_by_name() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        gone = await fluence.deploy_and_wait(container_spec(simulator, "gone"), until="ready")
        await fluence.terminate_and_wait(gone)
        first = await fluence.containers.deploy(container_spec(simulator, "exp"))
        assert [row.name for row in await fluence.containers.list(live=True)] == ["exp"]
        assert len(await fluence.containers.list()) == 2
        assert (await fluence.containers.get(name="exp")).ref == first
        with pytest.raises(NotFoundError, match="0 live containers are called 'gone'"):
            await fluence.containers.get(name="gone")
        second = await fluence.containers.post(container_spec(simulator, "exp"))
        with pytest.raises(
            NotFoundError, match=f"2 live containers are called 'exp'; their ids: .*{second.id}"
        ):
            await fluence.containers.get(name="exp")
        with pytest.raises(ConfigError, match="the id or the name"):
            await fluence.containers.get()
        for ref in (first, second):
            await fluence.terminate_and_wait(ref)


async def test_aclose_closes_once() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        waiting = asyncio.create_task(fluence.deploy_and_wait(container_spec(simulator, "other")))
        await asyncio.sleep(60)
        waiting.cancel()
        await fluence.aclose()
        assert [instance.id for instance in simulator.live()] == [ref.id]
        await fluence.aclose()
        with pytest.raises(NotSentError, match="closed"):
            await fluence.containers.list()
    await session_on(simulator).aclose()  # never opened


def test_signatures_show_each_default() -> None:
    for name in aiofluence.__all__:
        value = getattr(aiofluence, name)
        if attrs.has(value):
            assert "NOTHING" not in str(inspect.signature(value)), name
    assert "environment: 'Mapping[str, str]' = Environment()" in str(inspect.signature(ContainerSpec))
    assert "cost: 'float' = 5.0" in str(inspect.signature(Poll))


def test_completion_offers_public_methods() -> None:
    session = Session("key")
    shared = {"deploy", "get", "kind", "list", "post", "terminate"}
    shown = {name for name in dir(session.containers) if not name.startswith("_")}
    assert shown == shared | {"events", "logs", "update"}
    assert {name for name in dir(session.vms) if not name.startswith("_")} == shared | {"rename"}
    tail = session.tail_all([])
    assert [name for name in dir(tail) if not name.startswith("_")] == ["aclose", "last_errors"]


async def test_a_spec_that_is_none_is_refused() -> None:
    async with Session("key") as session:
        with pytest.raises(ConfigError, match="int is no spec, and this deploys container"):
            await session.containers.deploy(1)  # type: ignore[arg-type]
