"""Probes of keys, paths, redirects, headers, pace, and the OpenAPI document.

All are free: no request can create or change anything.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import urlsplit

from ..http.messages import BEARER, Priority, Reply, Request
from ..models.values import Kind
from ..resources.shapes import SHAPES, Maybe, type_name
from .asking import NO_INSTANCE, NO_PLAN, NO_RESULT, Asker, body_of, detail_of
from .probe import Bench, Level, Probe, probe

_LIST: Final = "/gpu/instances/"
_BURST: Final = 60
"""Maximum number of requests of the pace probe."""


def _key(asker: Asker, **changes: str | None) -> dict[str, str]:
    """Return the session's headers with another key, or none."""
    kept = {
        name: value for name, value in asker.headers.items() if name not in ("X-API-KEY", "Authorization")
    }
    return kept | {name.replace("_", "-"): value for name, value in changes.items() if value is not None}


def _refusal(reply: Reply) -> dict[str, Any]:
    """Return the status and the field names of a refusal."""
    body = body_of(reply)
    return {"status": reply.status, "fields": sorted(body) if isinstance(body, dict) else type_name(body)}


@probe(Level.FREE, "wrong-key", "malformed-key", "bearer", "read-only-key", requests=5)
async def keys(bench: Bench) -> None:
    """Send a list without a key, with wrong and malformed keys, and with the key as a bearer token."""
    asker, notes = bench.asker, bench.notes
    missing = _refusal(await asker.ask("GET", _LIST, headers=_key(asker)))
    wrong = _refusal(await asker.ask("GET", _LIST, headers=_key(asker, X_API_KEY="wrong-key")))
    expected = {"status": 403, "fields": ["code", "error"]}
    notes.compare("wrong-key", expected, wrong if wrong != expected else missing)
    malformed = await asker.ask("GET", _LIST, headers=_key(asker, X_API_KEY="two words"))
    notes.compare("malformed-key", {"status": 400}, {"status": malformed.status})
    key = asker.headers.get("X-API-KEY")
    if key is None:
        notes.compare("bearer", {"status": 200}, {"status": 200})  # the session itself uses a token
    else:
        bearer = await asker.ask("GET", _LIST, headers=_key(asker, Authorization=f"{BEARER}{key}"))
        if bearer.status == 200:
            notes.compare("bearer", {"status": 200}, {"status": 200})
        else:
            notes.undecided("bearer", "the key is not an access token")
    notes.undecided("read-only-key", "the key is neither read-only nor expired")


@probe(Level.FREE, "redirect", "not-found", "paths", requests=9)
async def paths(bench: Bench) -> None:
    """Send paths with a wrong slash, an unknown path, an unknown method, and every list."""
    asker, notes = bench.asker, bench.notes
    reply = await asker.ask("GET", "/gpu/plans", query={"a": "1"})
    location = urlsplit(_header(reply, "Location") or "")
    observed: dict[str, Any] = {"status": reply.status}
    expected: dict[str, Any] = {"status": 307, "location": "relative", "query": "kept"}
    if 300 <= reply.status < 400:
        observed["location"] = "absolute" if location.netloc else "relative"
        observed["query"] = "kept" if location.query == "a=1" else "dropped"
    notes.compare("redirect", expected, observed)
    unknown = await asker.ask("GET", "/gpu/conformance")
    method = await asker.ask("PATCH", "/gpu/instances/")
    notes.compare(
        "not-found",
        {"path": [404, "Not Found"], "method": [405, "Method Not Allowed"]},
        {"path": [unknown.status, detail_of(unknown)], "method": [method.status, detail_of(method)]},
    )
    expected, observed = {}, {}
    for operation in SHAPES:
        verb, _, path = operation.partition(" ")
        if verb == "GET" and "{id}" not in path and path.startswith("/gpu/"):
            expected[path] = 200
            observed[path] = (await asker.ask("GET", path)).status
    notes.compare("paths", expected, observed)


@probe(Level.FREE, "no-pages", requests=2)
async def pages(bench: Bench) -> None:
    """Send a list with a limit, and look for headers of pagination."""
    plain = await bench.asker.ask("GET", _LIST)
    limited = await bench.asker.ask("GET", _LIST, query={"limit": "1", "page": "1"})
    hints = sorted(
        name.lower()
        for name in plain.headers
        if name.lower() in ("link", "x-total-count", "x-next-page", "x-next-cursor")
    )
    rows = [body_of(reply) for reply in (plain, limited)]
    same = all(isinstance(each, list) for each in rows) and len(rows[0]) == len(rows[1])
    notes = {"headers": hints, "limit": "ignored" if same else "obeyed", "body": type_name(rows[0])}
    bench.notes.compare("no-pages", {"headers": [], "limit": "ignored", "body": "array"}, notes)


@probe(Level.FREE, "unknown-id", "last-form", "check-order", requests=8)
async def unknown_ids(bench: Bench) -> None:
    """Send details, changes and logs with an id that does not exist, in valid and invalid form."""
    asker, notes = bench.asker, bench.notes
    replies = [
        await asker.ask("GET", f"{_LIST}{NO_INSTANCE}"),
        await asker.ask("GET", f"{_LIST}no-uuid"),
        await asker.ask("DELETE", f"{_LIST}vms/{NO_INSTANCE}"),
    ]
    known = {(reply.status, str(detail_of(reply))) for reply in replies}
    expected = {"status": 404, "text": "Instance not found"}
    odd = next(
        ((status, text) for status, text in sorted(known) if (status, text) != (404, expected["text"])), None
    )
    notes.compare("unknown-id", expected, expected if odd is None else {"status": odd[0], "text": odd[1]})
    container = next((row["id"] for row in bench.account.rows.get(Kind.CONTAINER, ())), NO_INSTANCE)
    path = f"{_LIST}{container}/logs"
    observed = {
        name: (await asker.ask("GET", path, query={"last": last})).status
        for name, last in (("zero", "0"), ("negative", "-1"), ("text", "ten"))
    }
    notes.compare("last-form", {"zero": 422, "negative": 422, "text": 422}, observed)
    change = await asker.ask("PUT", f"{_LIST}vms/{NO_INSTANCE}", body={})
    known_plan = await asker.refused_deploy(Kind.CONTAINER, {"plan_id": NO_PLAN, "name": "Not Valid"})
    first = {404: "id", 422: "form"}
    notes.compare(
        "check-order",
        {"change": "form", "deploy": "form"},
        {
            "change": first.get(change.status, str(change.status)),
            "deploy": "form" if known_plan.status == 422 else "plan",
        },
    )


@probe(Level.FREE, "pace", requests=_BURST)
async def pace(bench: Bench) -> None:
    """Send a bounded burst of lists, past the session's own limit, and stop at the first refusal."""
    transport = bench.asker.session._transport
    request = Request("GET", _LIST, {}, transport.headers, b"", transport.timeout)
    await transport.limiter.acquire(Priority.POLL)
    refused: tuple[int, Reply] | None = None
    loop = asyncio.get_running_loop()
    began = loop.time()
    headers: set[str] = set()
    try:
        for number in range(1, _BURST + 1):
            try:
                reply = await transport.wire.send(request)
            except NO_RESULT:
                bench.notes.undecided("pace", "a request of the burst was not answered")
                return
            bench.asker.sent += 1
            headers |= {name.lower() for name in reply.headers if "ratelimit" in name.lower()}
            if reply.status in (429, 503):
                refused = (number, reply)
                break
        seconds = loop.time() - began
    finally:
        if refused is not None:
            transport.limiter.refused(began, 5.0)
        transport.limiter.release()
    expected = {"refused": False, "headers": []}
    observed: dict[str, Any] = {"refused": False, "headers": sorted(headers)}
    if refused is not None:
        number, reply = refused
        observed |= {
            "refused": True,
            "status": reply.status,
            "after": number - 1,
            "seconds": round(seconds, 1),
            "retry_after": _header(reply, "Retry-After"),
        }
    bench.notes.compare("pace", expected, observed)


@probe(Level.FREE, "openapi", requests=2)
async def openapi(bench: Bench) -> None:
    """Fetch the OpenAPI document, and compare operations, fields, types and limits with ours."""
    for path in ("/gpu/openapi.json", "/gpu/api-docs/openapi.json"):
        document = body_of(await bench.asker.ask("GET", path))
        if isinstance(document, dict) and isinstance(document.get("paths"), dict):
            break
    else:
        bench.notes.undecided("openapi", "the service publishes no OpenAPI document at the known paths")
        return
    operations = {
        f"{method.upper()} {_template(path)}"
        for path, methods in document["paths"].items()
        if isinstance(methods, dict)
        for method in methods
        if method in ("get", "post", "put", "delete", "patch")
    }
    ours = {operation for operation in SHAPES if " /gpu/" in operation}
    observed = {
        "missing": sorted(ours - operations),
        "more": sorted(operations - ours),
        "fields": sorted(_fields(document)),
        "limits": _limits(document),
        "rate": sorted(_mentions(document)),
    }
    expected = {"missing": [], "more": [], "fields": [], "limits": _LIMITS, "rate": []}
    bench.notes.compare("openapi", expected, observed)


_LIMITS: Final = {
    "name": {"minLength": 1, "maxLength": 25},
    "image": {"maxLength": 255},
    "startup_command": {"maxLength": 2048},
    "expose": {"minItems": 1, "maxItems": 10},
    "environment": {"maxItems": 64},
}
"""Limits of contract 4.1, as JSON Schema writes them."""
_REQUESTED: Final = frozenset(
    {"plan_id", "name", "container_settings", "constraints", "ssh_key", "image", "expose", "environment"}
    | {"startup_command", "credentials", "host", "username", "password", "port", "protocol", "value"}
    | {"location", "os_image"}
)
"""Fields of requests (contract 4)."""


def _template(path: str) -> str:
    """Return the path with `/gpu` and with `{id}` for any parameter."""
    parts = ["{id}" if part.startswith("{") else part for part in path.split("/")]
    whole = "/".join(parts)
    return whole if whole.startswith("/gpu") else f"/gpu{whole}"


def _fields(document: dict[str, Any]) -> set[str]:
    """Return the field names of all schemas that no document of ours has."""
    known = set(_REQUESTED)
    for shape in SHAPES.values():
        known |= _names(shape)
    schemas = (document.get("components") or {}).get("schemas") or {}
    return {
        name
        for schema in schemas.values()
        if isinstance(schema, dict) and "Error" not in str(schema.get("title"))
        for name in schema.get("properties") or {}
        if name not in known
    }


def _names(shape: Any) -> set[str]:
    if isinstance(shape, dict):
        return {name.removesuffix("?") for name in shape}.union(*map(_names, shape.values()))
    if isinstance(shape, Maybe):
        return _names(shape.inner)
    return _names(shape[0]) if isinstance(shape, list) else set()


def _limits(document: dict[str, Any]) -> dict[str, Any]:
    """Return the limits that the schemas of requests state for the fields in `_LIMITS`."""
    found: dict[str, Any] = {}
    schemas = (document.get("components") or {}).get("schemas") or {}
    for schema in schemas.values():
        properties = schema.get("properties") if isinstance(schema, dict) else None
        for name, limits in _LIMITS.items():
            field = (properties or {}).get(name)
            if isinstance(field, dict) and any(key in field for key in limits):
                found[name] = {key: field.get(key) for key in limits}
    return found


def _mentions(document: dict[str, Any]) -> set[str]:
    """Return the sentences of the descriptions that mention a rate limit."""
    groups = [each for each in document["paths"].values() if isinstance(each, dict)]
    operations = [operation for methods in groups for operation in methods.values()]
    described = [each for each in (document.get("info"), *operations) if isinstance(each, dict)]
    texts = [str(each.get("description") or "") for each in described]
    sentences = (part.strip() for text in texts for part in text.split("."))
    return {part[:200] for part in sentences if "rate limit" in part.lower() or "per second" in part.lower()}


def _header(reply: Reply, name: str) -> str | None:
    return next((value for key, value in reply.headers.items() if key.lower() == name.lower()), None)


HTTP_PROBES: Final[tuple[Probe, ...]] = (keys, paths, pages, unknown_ids, openapi)
LAST: Final[tuple[Probe, ...]] = (pace,)
"""Probes that would disturb those after them."""
