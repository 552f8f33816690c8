"""Requests that the wire writes itself, over aiohttp's pool and without aiohttp's session.

Against servers that answer byte for byte. The promises of both ways are in `test_aiohttp_wire.py`.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiofluence import NoReplyError, NotSentError, Request, Timeout
from aiofluence.http.aiohttp_wire import AiohttpWire
from aiofluence.http.messages import Headers

from ..harness import RawServer, http
from .test_aiohttp_wire import EMPTY, FOREIGN, LIST, made, send


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """The URL of a server that treats each connection so, and closes it whatever comes."""
    running: set[asyncio.Task[None]] = set()

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.create_task(closing(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for task in running:
        task.cancel()
    await asyncio.wait(running)


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", b"", None),
        ("HEAD", b"", None),
        ("DELETE", b"", b"0"),
        ("POST", b"", b"0"),
        ("PUT", b"abc", b"3"),
        ("GET", b"abc", b"3"),
    ],
)
async def test_a_request_says_how_long_its_body_is(method: str, body: bytes, length: bytes | None) -> None:
    async with RawServer(http("200 OK")) as server:
        await send(server.url, Request(method, "/gpu/instances/", headers={"X-API-KEY": "k"}, body=body))
    (head,) = server.heads
    first, *lines = head.rstrip().split(b"\r\n")
    assert first == f"{method} /gpu/instances/ HTTP/1.1".encode()
    headers = dict(line.split(b": ", 1) for line in lines)
    assert headers.pop(b"Content-Length", None) == length
    assert headers == {
        b"Host": server.url.removeprefix("http://").encode(),
        b"Accept-Encoding": b"gzip, deflate",
        b"X-API-KEY": b"k",
    }


async def test_one_requests_length_is_not_the_next_ones() -> None:
    async with RawServer(then=EMPTY) as server:
        wire = AiohttpWire(server.url)
        await wire.send(Request("PUT", "/gpu/instances/", headers={"A": "1"}, body=b"abc"))
        await wire.send(Request("GET", "/gpu/instances/", headers={"A": "1"}))
        await wire.send(Request("GET", "/gpu/instances/", headers={"A": "2"}))
        await wire.aclose()
    put, get, other = server.heads
    assert (b"Content-Length" in put, b"Content-Length" in get) == (True, False)
    assert b"A: 2\r\n" in other


async def test_an_answer_to_head_has_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with RawServer(head, EMPTY) as server:
        wire = AiohttpWire(server.url)
        assert (await wire.send(Request("HEAD", "/gpu/instances/"))).body == b""
        assert (await wire.send(LIST)).body == b"[]"
        await wire.aclose()


async def test_an_interim_answer_is_not_the_answer() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    async with RawServer(b"HTTP/1.1 102 Processing\r\n\r\n" + early + EMPTY) as server:
        reply = await send(server.url)
    assert (reply.status, reply.body) == (200, b"[]")


async def test_without_a_length_the_close_ends_a_body() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n[1, 2]")

    async with serving(serve) as url:
        reply = await send(url)
    assert reply.body == b"[1, 2]"


async def test_only_whole_replies_keep_a_connection() -> None:
    """A late reply on a broken-off connection would answer a request that has no caller any more."""
    connections: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = b"%d" % len(connections)
        connections.append(number)
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/slow" in head:
                await asyncio.sleep(0.2)
            writer.write(http("200 OK", number))

    async with serving(serve) as url:
        wire = AiohttpWire(url)
        slow = Request("GET", "/gpu/slow", timeout=Timeout(total=0.1))
        assert [(await wire.send(LIST)).body for _ in range(3)] == [b"0"] * 3
        with pytest.raises(NoReplyError) as caught:
            await wire.send(slow)
        assert caught.value.phase == "sent"
        assert [(await wire.send(LIST)).body for _ in range(2)] == [b"1"] * 2
        cancelled = asyncio.create_task(wire.send(slow))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert cancelled.cancelled()
        assert (await wire.send(LIST)).body == b"2"
        await wire.aclose()


async def test_an_early_refusal_is_read() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http("413 Too Large", b"{}"))
        await asyncio.sleep(60)

    async with serving(serve) as url:
        reply = await send(url, Request("POST", "/gpu/instances/", body=b"x" * 2**25))
    assert reply.status == 413


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET / HTTP/1.1\r\nX: y\r\n\r\nGET", "/gpu/instances/"),
        Request("GET", "/gpu/instances/", headers={"X-A": "1\r\nX-B: 2"}),
        Request("GET", "/gpu/instances/\r\nX-B: 2"),
    ],
)
async def test_nothing_can_be_slipped_into_a_request(request_: Request) -> None:
    async with RawServer(then=EMPTY) as server:
        with pytest.raises(NotSentError):
            await send(server.url, request_)
    assert server.heads == []


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
async def test_a_failure_to_connect_was_not_sent(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_here(*_: Any, **__: Any) -> Any:  # the operating system's resolver, not HTTP
        raise made(kind)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", break_here)
    with pytest.raises(NotSentError) as caught:
        await send("https://broken.example")
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "canary" not in shown


async def test_a_reset_connection_is_no_reply() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with serving(serve) as url:
        with pytest.raises(NoReplyError) as caught:
            await send(url)
    assert caught.value.phase == "sent"


async def test_a_cancelled_request_hides_the_key() -> None:
    async with RawServer(b"HTTP/1.1 200 OK\r\n") as server:
        wire = AiohttpWire(server.url)
        task = asyncio.create_task(
            wire.send(Request("GET", "/gpu/", headers=Headers({"X-API-KEY": "canary"})))
        )
        while not server.heads:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        await wire.aclose()
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert "_ask" in (text := "".join(shown))
    assert "canary" not in text


async def test_a_proxy_is_used_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawServer(then=EMPTY) as proxy, RawServer(then=EMPTY) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        await send(server.url)
        assert (len(proxy.heads), len(server.heads)) == (0, 1)
        await send(server.url, trust_env=True)
        assert (len(proxy.heads), len(server.heads)) == (1, 1)
    assert proxy.heads[0].startswith(f"GET {server.url}/gpu/instances/ HTTP/1.1".encode())
