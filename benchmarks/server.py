"""The server of `call.py`: an HTTP server in a separate process that does very little.

All replies are made in advance, so that only the client is measured. The container comes from the simulator,
and the fields that change in a real one change from reply to reply. hcloud gets a server in its own format.
This is no complete HTTP server: it reads no header and accepts only requests without a body.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

from aiofluence.http.messages import Request
from aiofluence.simulator import DEFAULT_API_KEY, Simulator

SPEC = {
    "name": "exp-1",
    "container_settings": {
        "image": "docker.io/fluencelabs/ubuntu-ssh-root:24.04",
        "expose": [{"port": "22", "protocol": "tcp"}, {"port": "80", "protocol": "http"}],
        "environment": [{"name": "EPOCHS", "value": "3"}],
    },
}

# The fields that hcloud's `Server` parses, with about as many bytes as the container.
HCLOUD_SERVER = {
    "server": {
        "id": 42,
        "name": "exp-1",
        "status": "running",
        "created": "2026-01-01T09:30:00+00:00",
        "public_net": {
            "ipv4": {"id": 1, "ip": "203.0.113.7", "blocked": False, "dns_ptr": "srv.example"},
            "ipv6": {"id": 2, "ip": "2001:db8::/64", "blocked": False, "dns_ptr": []},
            "floating_ips": [],
            "firewalls": [],
        },
        "private_net": [],
        "server_type": {
            "id": 1,
            "name": "cx22",
            "description": "CX22",
            "cores": 2,
            "memory": 4.0,
            "disk": 40,
            "prices": [{"location": "fsn1", "price_hourly": {"net": "0.0060", "gross": "0.0071"}}],
            "storage_type": "local",
            "cpu_type": "shared",
            "architecture": "x86",
        },
        "location": {"id": 1, "name": "fsn1", "description": "Falkenstein", "country": "DE"},
        "image": {"id": 7, "type": "system", "status": "available", "name": "ubuntu-22.04"},
        "rescue_enabled": False,
        "locked": False,
        "volumes": [],
        "labels": {"run": "1"},
        "protection": {"delete": False, "rebuild": False},
    }
}


ANSWERS = 1024
"""Number of different replies: more than any value cache of a client should hold."""


def containers() -> list[bytes]:
    """Return JSON of one active container at many moments, in the service's format, all of equal length."""
    simulator = Simulator()
    headers = {"X-API-KEY": DEFAULT_API_KEY}
    body = json.dumps(SPEC | {"plan_id": simulator.catalog.find("container").id}).encode()
    made = simulator.handle(Request("POST", "/gpu/instances/", headers=headers, body=body), 0)
    path = f"/gpu/instances/{made.json()['instance_id']}"
    detail = simulator.handle(Request("GET", path, headers=headers), 400).json()
    moments = []
    for number in range(ANSWERS):
        detail["updated_at"] = f"2026-01-01T09:{number % 60:02}:40.{number:06}Z"
        detail["billing"]["total_spendings"] = round(1.1415 + number / 1000, 3) + 0.0001
        detail["network"]["forwarded_ports"][0]["external_port"] = str(30_000 + number)
        moments.append(json.dumps(detail).encode())
    longest = max(map(len, moments))
    return [moment.ljust(longest) for moment in moments]


def answer(body: bytes) -> bytes:
    """Return `body` after the headers of a service behind nginx."""
    lines = [
        "HTTP/1.1 200 OK",
        "Server: nginx",
        "Date: Thu, 01 Jan 2026 09:36:40 GMT",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: keep-alive",
        "Strict-Transport-Security: max-age=31536000",
        "X-Request-Id: 5773b7d1e85a42f48efdc2b02d8f6faf",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


class Answering(asyncio.Protocol):
    """A connection that answers each request at once."""

    containers = itertools.cycle([answer(body) for body in containers()])
    hcloud = answer(json.dumps(HCLOUD_SERVER).encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the replies."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._head = b""

    def data_received(self, data: bytes) -> None:
        """Answer as soon as the headers are complete."""
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self._transport.write(self.hcloud if b" /v1/" in self._head[:32] else next(self.containers))
            self._head = b""


async def main() -> None:
    """Print the port, and serve until the other process closes stdin."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
