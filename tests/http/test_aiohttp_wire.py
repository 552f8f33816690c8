"""The aiohttp wire against servers that answer byte for byte: requests, their number, the meaning of errors.

Real sockets and a real clock. No test waits longer than a timeout of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import traceback
import zlib
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from aiofluence import (
    ContainerSpec,
    DecodeError,
    DeployPolicy,
    FluenceError,
    NoReplyError,
    NotSentError,
    ReplyError,
    Request,
    Retry,
    Session,
    Timeout,
    WireError,
)
from aiofluence.http.aiohttp_wire import AiohttpWire

from ..harness import FAST, RawServer, http
from .test_codec import SUMMARY

LIST = Request("GET", "/gpu/instances/", headers={"X-API-KEY": "canary-key"})
EMPTY = http("200 OK", b"[]", "Content-Type: application/json")


def unused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def send(url: str, request: Request = LIST, **options: Any) -> Any:
    wire = AiohttpWire(url, **options)
    try:
        return await wire.send(request)
    finally:
        await wire.aclose()


@pytest.fixture(params=["asked by the wire itself", "asked by aiohttp's session"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options that make the wire go either way; what it promises does not depend on it."""
    return {} if "itself" in request.param else {"trace_configs": [aiohttp.TraceConfig()]}


async def test_what_is_sent_is_what_was_asked(way: dict[str, Any]) -> None:
    async with RawServer(EMPTY) as server:
        request = Request(
            "POST",
            "/gpu/instances/",
            {"last": "5"},
            {"X-API-KEY": "k", "Content-Type": "application/json"},
            b'{"a": 1}',
        )
        reply = await send(server.url, request, **way)
    (head,) = server.heads
    assert head.startswith(b"POST /gpu/instances/?last=5 HTTP/1.1\r\n")
    assert b"X-API-KEY: k\r\n" in head
    assert b"Cookie" not in head
    assert (reply.status, reply.body) == (200, b"[]")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_closed_connection_is_one_request(method: str, way: dict[str, Any]) -> None:
    async with RawServer() as server:
        with pytest.raises(NoReplyError) as caught:
            await send(server.url, Request(method, "/gpu/instances/"), **way)
    assert len(server.heads) == 1
    assert caught.value.phase == "sent"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_closed_idle_connection_is_one_request(method: str, way: dict[str, Any]) -> None:
    async with RawServer(EMPTY, None) as server:
        wire = AiohttpWire(server.url, **way)
        await wire.send(LIST)
        with pytest.raises(NoReplyError):
            await wire.send(Request(method, "/gpu/instances/"))
        await wire.aclose()
    assert len(server.heads) == 2


@pytest.mark.parametrize("unasked", [http("408 Request Timeout"), http("200 OK", b"[0]")])
async def test_an_unasked_answer_is_dropped(unasked: bytes, way: dict[str, Any]) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(http("200 OK", b"[%d]" % connections))
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(unasked)
        await close(writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        wire = AiohttpWire(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", **way)
        bodies = []
        for _ in range(3):
            bodies.append((await wire.send(LIST)).body)
            await asyncio.sleep(0.1)
        await wire.aclose()
    assert bodies == [b"[1]", b"[2]", b"[3]"]


async def test_only_the_retry_layer_repeats_a_get() -> None:
    async with RawServer(None, None, EMPTY) as server:
        async with Session("key", base_url=server.url, rate=FAST, retry=Retry(base=0.01)) as fluence:
            assert await fluence.containers.list() == []
    assert len(server.heads) == 3


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temp", "308 Permanent"])
async def test_no_redirect_is_followed(status: str, way: dict[str, Any]) -> None:
    async with RawServer(then=EMPTY) as other:
        answer = http(status, b"", f"Location: {other.url}/gpu/instances/?secret=canary")
        async with RawServer(then=answer) as server:
            async with Session("key", base_url=server.url, rate=FAST, **way) as fluence:
                for call in (fluence.containers.list(), fluence.containers.terminate("i-1")):
                    with pytest.raises(ReplyError, match=r"http://127\.0\.0\.1") as caught:
                        await call
                    assert "canary" not in str(caught.value)
    assert other.heads == []
    assert len(server.heads) == 2


@pytest.mark.parametrize("target", ["/gpu/instances", "//127.0.0.1/gpu/instances", "", "::::"])
async def test_nor_one_to_the_same_host(target: str, way: dict[str, Any]) -> None:
    async with RawServer(http("307 Temp", b"", f"Location: {target}"), then=EMPTY) as server:
        async with Session("key", base_url=server.url, rate=FAST, **way) as fluence:
            with pytest.raises(ReplyError, match="never followed"):
                await fluence.containers.list()
    assert len(server.heads) == 1


async def test_nobody_listens(way: dict[str, Any]) -> None:
    with pytest.raises(NotSentError, match=r"cannot connect to 127\.0\.0\.1") as caught:
        await send(f"http://127.0.0.1:{unused_port()}", **way)
    assert not caught.value.permanent


async def test_a_name_that_does_not_resolve(way: dict[str, Any]) -> None:
    with pytest.raises(NotSentError, match="DNS"):
        await send("https://does-not-exist.invalid", **way)


async def test_no_tls_where_tls_was_expected() -> None:
    async with RawServer(then=EMPTY) as server:
        with pytest.raises(NotSentError):
            hasty = Request("GET", "/gpu/instances/", timeout=Timeout(connect=0.2, total=0.4))
            await send(server.url.replace("http://", "https://"), hasty)


async def test_a_wrong_certificate_is_one_try(tls_server: RawServer, way: dict[str, Any]) -> None:
    async with Session("key", base_url=tls_server.url, rate=FAST, **way) as fluence:
        with pytest.raises(NotSentError, match="certificate") as caught:
            await fluence.containers.list()
    assert caught.value.permanent
    assert len(caught.value.attempts) == 1
    assert tls_server.heads == []


async def test_a_private_authority_can_be_trusted(
    tls_server: RawServer, authority: Any, way: dict[str, Any]
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    reply = await send(tls_server.url, ssl_context=context, **way)
    assert reply.status == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[",  # and then it hangs
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
)
async def test_an_answer_that_stops_counts_as_sent(answer: bytes, way: dict[str, Any]) -> None:
    async with RawServer(answer) as server:
        request = Request("GET", "/gpu/instances/", timeout=Timeout(total=0.2))
        with pytest.raises(NoReplyError, match="timed out"):
            await send(server.url, request, **way)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        http("200 OK", b"not gzip", "Content-Encoding: gzip"),
    ],
    ids=["bad-length", "not-http", "many-headers", "long-header", "bad-gzip"],
)
async def test_an_answer_that_is_no_http_is_no_reply(answer: bytes, way: dict[str, Any]) -> None:
    async with RawServer(answer) as server:
        with pytest.raises(NoReplyError) as caught:
            await send(server.url, **way)
    assert "canary" not in f"{caught.value!r} {caught.value}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_a_body_is_read_to_its_cap_and_no_further(way: dict[str, Any]) -> None:
    body = b"[" + b" " * 2_000_000 + b"]"
    async with RawServer(then=http("200 OK", body)) as server:
        assert len((await send(server.url, **way)).body) == len(body)
        with pytest.raises(DecodeError, match="larger than 1000 bytes"):
            await send(server.url, Request("GET", "/gpu/instances/", max_body=1000), **way)


async def test_a_gzip_bomb_is_stopped_at_the_cap(way: dict[str, Any]) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b"\0" * 2**20) for _ in range(200)) + packer.flush()
    assert len(bomb) < 2**18
    async with RawServer(then=http("200 OK", bomb, "Content-Encoding: gzip")) as server:
        with pytest.raises(DecodeError, match="larger"):
            await send(server.url, Request("GET", "/gpu/instances/", max_body=2**20), **way)


async def test_an_endless_body_is_dropped_at_the_cap(way: dict[str, Any]) -> None:
    sent = 0
    dropped = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                sent += 0x10000
                await writer.drain()
        await close(writer)
        dropped.set()

    async with await asyncio.start_server(endless, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(DecodeError, match="larger"):
            await send(url, Request("GET", "/gpu/instances/", max_body=2**20), **way)
        await dropped.wait()
    assert sent < 2**25


async def test_a_trickling_reply_times_out(way: dict[str, Any]) -> None:
    dropped = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        await close(writer)
        dropped.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(NoReplyError, match="timed out") as caught:
            await send(url, Request("GET", "/gpu/instances/", timeout=Timeout(total=0.3)), **way)
        assert caught.value.phase == "head"
        await dropped.wait()


async def test_each_request_has_its_own_timeout() -> None:
    async with RawServer(*[b"HTTP/1.1 200 OK\r\n"] * 4) as server:
        wire = AiohttpWire(server.url)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def one(seconds: float) -> None:
            with pytest.raises(WireError, match="timed out"):
                await wire.send(Request("GET", "/gpu/instances/", timeout=Timeout(total=seconds)))
            assert loop.time() - began >= seconds - 0.01

        patient = asyncio.ensure_future(one(600))
        await asyncio.gather(*map(one, (0.3, 0.1, 0.2)))  # whoever has less time does not wait for the others
        assert not patient.done()
        patient.cancel()
        await asyncio.wait([patient])
        await wire.aclose()


async def test_a_timeout_with_a_cancellation() -> None:
    async with RawServer(*[b"HTTP/1.1 200 OK\r\n"] * 60) as server:
        wire = AiohttpWire(server.url)
        loop = asyncio.get_running_loop()
        ends: set[str] = set()

        async def one() -> None:
            task = asyncio.current_task()
            assert task is not None
            try:
                await wire.send(Request("GET", "/gpu/instances/", timeout=Timeout(total=0.05)))
            except WireError:  # on a busy machine it may be late before it is even connected
                ends.add("late")
                assert task.cancelling() == 0
                await asyncio.sleep(0)  # where a cancellation left behind would strike
            except asyncio.CancelledError:
                ends.add("cancelled")
                assert task.cancelling() == 1
                raise

        for offset in range(20):
            tasks = [asyncio.ensure_future(one()) for _ in range(3)]
            loop.call_later(0.045 + offset * 0.0005, tasks[0].cancel)
            await asyncio.wait(tasks)
            assert [task.exception() for task in tasks[1:]] == [None, None]
            assert tasks[0].cancelled() or tasks[0].exception() is None
        await wire.aclose()
    assert ends == {"late", "cancelled"}


async def test_slow_dns_counts_as_connecting(monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]) -> None:
    async def slow(*_: Any, **__: Any) -> Any:  # the operating system's resolver, not HTTP
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", slow)
    began = asyncio.get_running_loop().time()
    with pytest.raises(NotSentError):
        request = Request("POST", "/gpu/instances/", timeout=Timeout(connect=0.2, total=5))
        await send("https://slow.example", request, **way)
    assert asyncio.get_running_loop().time() - began < 2


async def test_a_post_on_a_closed_idle_connection() -> None:
    date = "Date: Thu, 01 Jan 2026 09:30:00 GMT"
    row = json.dumps([SUMMARY | {"created_at": "2026-01-01T09:30:00Z", "name": "exp-1"}]).encode()
    spec = ContainerSpec(name="exp-1", plan_id="p", image="a", expose=[22])
    async with RawServer(http("200 OK", b"[]", date), None, http("200 OK", row, date)) as server:
        policy = DeployPolicy(watch=0)
        async with Session("key", base_url=server.url, rate=FAST, deploy=policy) as fluence:
            await fluence.containers.list()  # so that there is a connection to reuse
            ref = await fluence.containers.deploy(spec)
    assert ref.id == SUMMARY["id"]
    methods = [head.partition(b" ")[0] for head in server.heads]
    assert methods == [b"GET", b"POST", b"GET"]


async def test_of_a_refusal_only_the_beginning_is_read(way: dict[str, Any]) -> None:
    async with RawServer(then=http("502 Bad Gateway", b"x" * 1_000_000)) as server:
        reply = await send(server.url, **way)
    assert (reply.status, len(reply.body)) == (502, 64 * 1024)


async def test_closing_fails_requests_in_flight(way: dict[str, Any]) -> None:
    async with RawServer(b"HTTP/1.1 200 OK\r\n") as server:
        wire = AiohttpWire(server.url, **way)
        running = [asyncio.create_task(wire.send(LIST)) for _ in range(3)]
        while len(server.heads) < 1:
            await asyncio.sleep(0.01)
        await wire.aclose()
        results = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(result, WireError) for result in results), results
        with pytest.raises(NotSentError, match="closed"):
            await wire.send(LIST)


async def test_a_tracer_of_all_sessions_sees_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As OpenTelemetry's `AioHttpClientInstrumentor().instrument()` does it."""
    paths: list[str] = []

    async def note(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        paths.append(params.url.path)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(note)
    made = aiohttp.ClientSession.__init__

    def instrumented(self: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
        options["trace_configs"] = [*(options.get("trace_configs") or ()), trace]
        made(self, *args, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrumented)
    async with RawServer(http("200 OK", b"[]")) as server:
        await send(server.url)
    assert paths == ["/gpu/instances/"]


async def test_an_untried_aiohttp_uses_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aiohttp, "__version__", "3.15.0")

    def fail(*_: object) -> None:
        raise AssertionError("it was asked directly")

    monkeypatch.setattr("aiofluence.http.aiohttp_wire.StreamWriter", fail)
    async with RawServer(http("200 OK", b"[]")) as server:
        assert (await send(server.url)).status == 200


async def test_trace_configs_are_passed_through() -> None:
    seen: list[str] = []

    async def started(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(f"{params.method} {params.url.path}")

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    async with RawServer(then=EMPTY) as server:
        async with Session("key", base_url=server.url, trace_configs=[trace]) as fluence:
            await fluence.containers.list()
    assert seen == ["GET /gpu/instances/"]


def exceptions_of(module: Any, root: type[BaseException]) -> list[type[BaseException]]:
    return [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, root)]


FOREIGN = [
    *exceptions_of(aiohttp, aiohttp.ClientError),
    *[kind for kind in [OSError, *OSError.__subclasses__()] if kind.__module__ in ("builtins", "socket")],
    ssl.SSLError,
    ssl.SSLCertVerificationError,
    ValueError,
    UnicodeDecodeError,
]


def made(kind: Any) -> BaseException:
    """Make an exception of `kind`, with the canary wherever its constructor takes a part of the request."""
    headers = CIMultiDict({"X-API-KEY": "canary-key"})
    url = URL("http://127.0.0.1/?canary=1")
    info = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(headers), url)
    key = ConnectionKey("127.0.0.1", 1, False, True, None, None, None)
    for arguments in (
        (key, ssl.SSLCertVerificationError(1, "refused")),
        (key, "/canary.sock", OSError(1, "refused")),
        (info, ()),
        (b"canary", b"", "127.0.0.1", 1),
        ("utf-8", b"canary", 0, 1, "bad"),
        (1, "refused"),  # an OSError: number and text are the operating system's
        ("canary",),
    ):
        try:
            return kind(*arguments)  # type: ignore[no-any-return]
        except TypeError:
            continue
    raise AssertionError(f"how is a {kind} made?")


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("signal", "ours"),
    [
        ("on_request_start", NotSentError),
        ("on_connection_create_start", NotSentError),
        ("on_connection_create_end", NoReplyError),
        ("on_request_headers_sent", NoReplyError),
        ("on_request_end", NoReplyError),
    ],
)
async def test_the_border_is_complete(kind: Any, signal: str, ours: type[WireError]) -> None:
    """Whatever breaks inside aiohttp, at whatever point, comes out as one of ours, without what it holds."""

    async def break_here(*_: Any) -> None:
        raise made(kind)

    trace = aiohttp.TraceConfig()
    getattr(trace, signal).append(break_here)
    async with RawServer(then=EMPTY) as server:
        with pytest.raises(FluenceError) as caught:
            await send(server.url, trace_configs=[trace])
    assert type(caught.value) is ours
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "canary" not in shown
