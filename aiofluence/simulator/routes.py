"""The service's paths, as data: a table of operations, and lookups in it.

An operation is named as the contract's table writes it, `"GET /gpu/instances/{id}"`. Faults and the
request log use these names.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from .plans import Kind

Endpoint: TypeAlias = Literal[
    "plans",
    "images",
    "deploy",
    "list",
    "detail",
    "change",
    "terminate",
    "logs",
    "events",
    "balances",
    "me",
]


@attrs.frozen
class Route:
    """An operation: method, path template, and the endpoint and kind that answer it."""

    method: str
    template: str
    endpoint: Endpoint
    kind: Kind = "container"

    @property
    def operation(self) -> str:
        return f"{self.method} {self.template}"


def _machine_routes(kind: Kind, folder: str) -> tuple[Route, ...]:
    return (
        Route("GET", f"/gpu/plans/{folder}", "plans", kind),
        Route("POST", f"/gpu/instances/{folder}", "deploy", kind),
        Route("GET", f"/gpu/instances/{folder}", "list", kind),
        Route("GET", f"/gpu/instances/{folder}/{{id}}", "detail", kind),
        Route("PUT", f"/gpu/instances/{folder}/{{id}}", "change", kind),
        Route("DELETE", f"/gpu/instances/{folder}/{{id}}", "terminate", kind),
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/gpu/plans/", "plans"),
    Route("POST", "/gpu/instances/", "deploy"),
    Route("GET", "/gpu/instances/", "list"),
    Route("GET", "/gpu/instances/{id}", "detail"),
    Route("PUT", "/gpu/instances/{id}", "change"),
    Route("DELETE", "/gpu/instances/{id}", "terminate"),
    Route("GET", "/gpu/instances/{id}/logs", "logs"),
    Route("GET", "/gpu/instances/{id}/events", "events"),
    *_machine_routes("vm", "vms"),
    *_machine_routes("baremetal", "baremetal"),
    Route("GET", "/gpu/default-images/", "images"),
    Route("GET", "/v2/users/balances", "balances"),
    Route("GET", "/v1/users/me", "me"),
)

_TABLE: dict[tuple[str, ...], dict[str, Route]] = {}
for _route in ROUTES:
    _TABLE.setdefault(tuple(_route.template.split("/")), {})[_route.method] = _route


@attrs.frozen
class Match:
    """A known path: its operations by method, and the instance id in the path."""

    by_method: dict[str, Route]
    instance_id: str = ""


def match(path: str) -> Match | None:
    """Return the operations of a path, slash for slash, or None if there is no such path."""
    parts = tuple(path.split("/"))
    if found := _TABLE.get(parts):
        return Match(found)
    for place in (3, 4):  # /gpu/instances/{id}… and /gpu/instances/vms/{id}
        if len(parts) > place and parts[place]:
            template = (*parts[:place], "{id}", *parts[place + 1 :])
            if found := _TABLE.get(template):
                return Match(found, parts[place])
    return None


def other_slash(path: str) -> str | None:
    """Return the path with its trailing slash added or removed, or None if the service lacks that path."""
    other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    return other if match(other) else None


def operation(method: str, path: str) -> str | None:
    """Return the operation's name, or None if the service does not offer this method and path."""
    found = match(path)
    route = found.by_method.get(method) if found else None
    return route.operation if route else None
