"""Requests to a simulator by hand, with the time in the test's own hands."""

from __future__ import annotations

import json
from typing import Any

from aiofluence.http.messages import Reply, Request
from aiofluence.simulator import DEFAULT_API_KEY, Provisioning, Simulator

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@example"
EXACT = Provisioning(median=100.0, sigma=0.0, start_delay=4.0, network_delay=6.0, domain_delay=15.0)


def request(method: str, path: str, body: Any = None, **query: str) -> Request:
    """A request with the right key; bytes go as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Request(method, path, query, {"X-API-KEY": DEFAULT_API_KEY}, raw)


def text(reply: Reply) -> Any:
    return json.loads(reply.body) if reply.body else None


class Driver:
    """Sends requests to a simulator at its own `now`.

    The profile is `kind` unless a test gives another, so that the tests of one habit see no other. Those of
    `likely` are in test_restarts, test_likely and test_published.
    """

    def __init__(self, simulator: Simulator | None = None, **options: Any) -> None:
        self.sim = simulator or Simulator(**{"provisioning": EXACT, "profile": "kind", **options})
        self.now = 0.0

    def send(self, method: str, path: str, body: Any = None, **query: str) -> Reply:
        return self.sim.handle(request(method, path, body, **query), self.now)

    def get(self, path: str, **query: str) -> Any:
        reply = self.send("GET", path, **query)
        assert reply.status == 200, reply.body
        return text(reply)

    def container_body(self, name: str = "job", **settings: Any) -> dict[str, Any]:
        return {
            "plan_id": self.sim.catalog.find("container", "rtx4090").id,
            "name": name,
            "container_settings": {
                "image": "docker.io/library/ubuntu:24.04",
                "expose": [{"port": "22", "protocol": "tcp"}],
                **settings,
            },
        }

    def vm_body(self, name: str = "box", kind: Any = "vm") -> dict[str, Any]:
        offer = self.sim.catalog.find(kind)
        return {"plan_id": offer.id, "name": name, "ssh_key": KEY, "os_image": offer.os_options[0]}

    def deploy(self, body: dict[str, Any], path: str = "/gpu/instances/") -> str:
        reply = self.send("POST", path, body)
        assert reply.status == 201, reply.body
        instance_id = text(reply)["instance_id"]
        assert isinstance(instance_id, str)
        return instance_id

    def active_container(self, **settings: Any) -> str:
        """A container that is up in every respect, at second 200."""
        instance_id = self.deploy(self.container_body(**settings))
        self.now = 200.0
        return instance_id
