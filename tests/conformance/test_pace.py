"""The burst of the pace probe is bounded, and stops at the first refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from aiofluence import NoReplyError, Reply, Request, Session
from aiofluence.conformance.account import Account
from aiofluence.conformance.asking import Asker
from aiofluence.conformance.finding import Finding, Notes, Verdict
from aiofluence.conformance.http_probes import pace
from aiofluence.conformance.probe import Bench

from ..harness import VIRTUAL


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


class Gateway:
    """A wire that refuses every request from the n-th."""

    def __init__(self, number: int, status: int, headers: Mapping[str, str], *, lost: bool = False) -> None:
        self.lost = lost
        self.number, self.status, self.headers = number, status, headers
        self.sent = 0

    async def send(self, request: Request) -> Reply:
        self.sent += 1
        refused = self.sent >= self.number
        if refused and self.lost:
            raise NoReplyError("lost")
        headers = {**self.headers, "X-RateLimit-Limit": "9"} if refused else {}
        return Reply(self.status if refused else 200, headers, b"[]")

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    ("status", "headers", "retry_after"), [(429, {"retry-after": "30"}, "30"), (503, {}, None)]
)
async def test_stops_at_the_first_refusal(
    status: int, headers: dict[str, str], retry_after: str | None
) -> None:
    wire = Gateway(10, status, headers)
    observed = await pace_of(wire)
    assert wire.sent == 10
    assert observed == {
        "refused": True,
        "headers": ["x-ratelimit-limit"],
        "status": status,
        "after": 9,
        "seconds": 0.0,
        "retry_after": retry_after,
    }


async def test_is_bounded() -> None:
    wire = Gateway(1000, 429, {})
    assert await pace_of(wire) == {"refused": False, "headers": []}
    assert wire.sent == 60


async def test_a_lost_reply_decides_nothing() -> None:
    assert (await found_by(Gateway(10, 429, {}, lost=True))).verdict is Verdict.UNDECIDED


async def pace_of(wire: Gateway) -> Any:
    return (await found_by(wire)).observed


async def found_by(wire: Gateway) -> Finding:
    async with Session("key", wire=wire) as session:
        notes = Notes()
        await pace.run(Bench(Asker(session), notes, Account(), None, None, print))
    (found,) = notes
    return found
