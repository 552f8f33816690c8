"""A service with the log of one container, written from the contract. Fields of the class select its habits.

The service is a wire: it answers logs, events and the detail of the container, and records every window. This
module is not a test.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs

from aiofluence import InstanceRef, Kind, LogGap, LogLine, RateLimit, Retry, Session
from aiofluence.http.messages import Reply, Request

REF = InstanceRef(Kind.CONTAINER, "c-1", "train")

TOO_WIDE = json.dumps(
    {
        "detail": [
            {
                "type": "less_than_equal",
                "loc": ["query", "last"],
                "msg": "Input should be less than or equal to 1000",
                "input": "4096",
            }
        ]
    }
).encode()


@attrs.define
class LogService:
    """Wire to one container and its log.

    Attributes:
        log: (time, text) of each line, in order. Times are seconds from the first request.
        ends: time at which the container has ended.
        refused_above: widest numbered window that is not refused. None refuses no window.
        refusal: status of the refusal.
        whole_refused: a request without `last` is refused, too.
        cap: maximum lines of a reply to a numbered window. The reply does not mention the cap.
        cap_all: `cap` applies to a request without `last`, too.
        rows: elements of the JSON array that replace lines, by text.
        raw: replacements of bytes in the body.
        asked: time and window of each request for logs.
        size: bytes of all log replies.
        hidden: lines that `cap` hid when the first lines were shown. None before the first lines.
    """

    log: list[tuple[float, str]]
    ends: float
    refused_above: int | None = None
    refusal: int = 422
    whole_refused: bool = False
    cap: int | None = None
    cap_all: bool = False
    rows: dict[str, Any] = attrs.Factory(dict)
    raw: dict[bytes, bytes] = attrs.Factory(dict)
    asked: list[tuple[float, int | None]] = attrs.Factory(list)
    size: int = 0
    hidden: int | None = None
    _start: float | None = None

    async def aclose(self) -> None:
        """Do nothing: no resource is open."""

    async def send(self, request: Request) -> Reply:
        """Answer one request."""
        await asyncio.sleep(0.05)
        now = asyncio.get_running_loop().time()
        self._start = now if self._start is None else self._start
        now -= self._start
        if request.path.endswith("/logs"):
            return self._logs(request, now)
        if request.path.endswith("/events"):
            return Reply(200, {}, self._body([]))
        size = {"count": 1, "units": "Gi"}
        detail: dict[str, Any] = {
            "id": REF.id,
            "name": REF.name,
            "instance_status": "ENDED" if now >= self.ends else "ACTIVE",
            "location": "US",
            "resources": {
                "supply": {"vcpu": {"count": 1}, "memory": size, "storage": size, "gpu_count": 1},
                "gpu_model": {"vendor": "n", "model": "m", "vram": "80Gi", "interface": "sxm"},
            },
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": None,
            "container_status": "STARTED",
            "network": None,
            "container_info": {"image": "a", "expose": [], "environment": [], "startup_command": None},
            "billing": {"hourly_usage": 1, "total_spendings": 1, "reserved_amount": 2},
        }
        return Reply(200, {}, json.dumps(detail).encode())

    def _logs(self, request: Request, now: float) -> Reply:
        last = int(request.query["last"]) if "last" in request.query else None
        self.asked.append((now, last))
        too_wide = self.refused_above is not None and last is not None and last > self.refused_above
        if too_wide or (last is None and self.whole_refused):
            body = TOO_WIDE if self.refusal == 422 else b'{"detail": "last is too large"}'
            return Reply(self.refusal, {}, body)
        lines = [text for at, text in self.log if at <= now]
        window = last
        if self.cap is not None and (last is not None or self.cap_all):
            window = self.cap if last is None else min(last, self.cap)
        if lines and self.hidden is None:
            self.hidden = max(0, len(lines) - (self.cap or len(lines)))
        shown = lines if window is None else lines[-window:]
        body = self._body([self.rows.get(text, f"[pod-1] {text}") for text in shown])
        self.size += len(body)
        return Reply(200, {}, body)

    def _body(self, rows: list[Any]) -> bytes:
        body = json.dumps(rows).encode()
        for old, new in self.raw.items():
            body = body.replace(old, new)
        return body


def session(service: LogService) -> Session:
    """Return a session whose wire is `service`."""
    rate = RateLimit(per_second=1000, burst=1000)
    return Session("key-123456", wire=service, rate=rate, retry=Retry(attempts=1))


async def follow(service: LogService, last: int = 10**6) -> list[LogLine | LogGap]:
    """Return everything that a tail of the container delivers until the container has ended."""
    async with session(service) as fluence:
        return [item async for item in fluence.tail_logs(REF, last=last)]


def texts(items: list[LogLine | LogGap]) -> list[str]:
    """Return the texts of the lines among `items`."""
    return [item.text for item in items if isinstance(item, LogLine)]


def gaps(items: list[LogLine | LogGap]) -> list[LogGap]:
    """Return the marks among `items`."""
    return [item for item in items if isinstance(item, LogGap)]
