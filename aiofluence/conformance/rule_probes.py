"""Probes of the rules for requests: one refused deploy for each rule. All are free: the plan does not exist.

`RULES` is the contract's table of rules as data, with the problem that a 422 should name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ..http.messages import Reply
from ..models.values import Kind
from .asking import NO_INSTANCE, NO_PLAN, detail_of
from .probe import Bench, Level, Probe, probe

_IMAGE: Final = "docker.io/fluencelabs/debian-ssh-root:11"
_PORT: Final = {"port": "22", "protocol": "tcp"}
_NAME_PATTERN: Final = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"


def container(**settings: Any) -> dict[str, Any]:
    """Return the body of a valid container deploy, but for its plan. None removes a setting."""
    inner = {"image": _IMAGE, "expose": [_PORT]} | settings
    return {
        "plan_id": NO_PLAN,
        "name": "conformance",
        "container_settings": {name: value for name, value in inner.items() if value is not None},
    }


def _machine(**fields: Any) -> dict[str, Any]:
    given = {"plan_id": NO_PLAN, "name": "conformance", "ssh_key": "ssh-ed25519 AAAA", "os_image": "Ubuntu"}
    return {name: value for name, value in (given | fields).items() if value is not None}


@attrs.frozen
class Rule:
    """A request that breaks one rule.

    Attributes:
        claim: claim that contains the rule.
        name: short text for reports.
        body: body of the deploy.
        problem: place and type of the problem in the 422, such as `body.name string_too_long`. List indexes
            are left out.
        message: text of the problem.
        kind: kind of instance.
    """

    claim: str
    name: str
    body: Any
    problem: str
    message: str
    kind: Kind = Kind.CONTAINER

    @property
    def key(self) -> str:
        """The problem, with `machine ` before those of machines."""
        return self.problem if self.kind is Kind.CONTAINER else f"machine {self.problem}"


def _without(field: str, kind: Kind = Kind.CONTAINER) -> dict[str, Any]:
    body = container() if kind is Kind.CONTAINER else _machine()
    return {name: value for name, value in body.items() if name != field}


_SETTINGS: Final = "body.container_settings"
_REQUIRED: Final = "Field required"
_PATTERN: Final = f"String should match pattern '{_NAME_PATTERN}'"

_MANY_PORTS: Final = [{"port": str(9000 + number), "protocol": "tcp"} for number in range(11)]
_MANY_VARIABLES: Final = [{"name": f"V{number}", "value": "1"} for number in range(65)]

RULES: Final[tuple[Rule, ...]] = (
    *(
        Rule("deploy-fields", f"{field} missing", _without(field), f"body.{field} missing", _REQUIRED)
        for field in ("plan_id", "name", "container_settings")
    ),
    Rule("deploy-fields", "image missing", container(image=None), f"{_SETTINGS}.image missing", _REQUIRED),
    Rule("deploy-fields", "expose missing", container(expose=None), f"{_SETTINGS}.expose missing", _REQUIRED),
    *(
        Rule(
            "deploy-fields",
            f"{field} of a machine missing",
            _without(field, Kind.VM),
            f"body.{field} missing",
            _REQUIRED,
            Kind.VM,
        )
        for field in ("name", "ssh_key", "os_image")
    ),
    Rule(
        "restrictions",
        "http on port 8080",
        container(expose=[{"port": "8080", "protocol": "http"}]),
        f"{_SETTINGS}.expose value_error",
        'Value error, Only port 80 supports the "http" protocol',
    ),
    Rule(
        "restrictions",
        "11 ports",
        container(expose=_MANY_PORTS),
        f"{_SETTINGS}.expose too_long",
        "List should have at most 10 items after validation, not 11",
    ),
    Rule(
        "restrictions",
        "65 variables",
        container(environment=_MANY_VARIABLES),
        f"{_SETTINGS}.environment too_long",
        "List should have at most 64 items after validation, not 65",
    ),
    Rule(
        "restrictions",
        "registry quay.io",
        container(credentials={"host": "quay.io", "username": "u", "password": "p"}),
        f"{_SETTINGS}.credentials.host value_error",
        "Value error, Only docker.io and ghcr.io are supported",
    ),
    Rule(
        "limits",
        "name of 26 characters",
        container() | {"name": "n" * 26},
        "body.name string_too_long",
        "String should have at most 25 characters",
    ),
    Rule(
        "limits",
        "name in capitals",
        container() | {"name": "Name"},
        "body.name string_pattern_mismatch",
        _PATTERN,
    ),
    Rule(
        "limits",
        "name with a final hyphen",
        container() | {"name": "n-"},
        "body.name string_pattern_mismatch",
        _PATTERN,
    ),
    Rule(
        "limits",
        "image in capitals",
        container(image="Debian:11"),
        f"{_SETTINGS}.image value_error",
        "Value error, Image must be lower case",
    ),
    Rule(
        "limits",
        "image of 256 characters",
        container(image="i" * 256),
        f"{_SETTINGS}.image string_too_long",
        "String should have at most 255 characters",
    ),
    Rule(
        "limits",
        "no ports",
        container(expose=[]),
        f"{_SETTINGS}.expose too_short",
        "List should have at least 1 item after validation, not 0",
    ),
    Rule(
        "limits",
        "protocol sctp",
        container(expose=[{"port": "22", "protocol": "sctp"}]),
        f"{_SETTINGS}.expose.protocol literal_error",
        "Input should be 'tcp', 'udp' or 'http'",
    ),
    Rule(
        "limits",
        "variable in small letters",
        container(environment=[{"name": "small", "value": "1"}]),
        f"{_SETTINGS}.environment.name string_pattern_mismatch",
        "String should match pattern '^[A-Z][A-Z0-9_]*$'",
    ),
    Rule(
        "limits",
        "command of 2049 characters",
        container(startup_command="c" * 2049),
        f"{_SETTINGS}.startup_command string_too_long",
        "String should have at most 2048 characters",
    ),
    Rule(
        "limits",
        "port 0",
        container(expose=[{"port": "0", "protocol": "tcp"}]),
        f"{_SETTINGS}.expose.port value_error",
        "Value error, Port must be between 1 and 65535",
    ),
    Rule(
        "credentials",
        "credentials without a user",
        container(credentials={"host": "ghcr.io", "password": "p"}),
        f"{_SETTINGS}.credentials.username missing",
        _REQUIRED,
    ),
    Rule(
        "countries",
        "location in small letters",
        container() | {"constraints": {"location": "us"}},
        "body.constraints.location string_pattern_mismatch",
        "String should match pattern '^[A-Z]{2}$'",
    ),
    Rule(
        "machine-names",
        "name of a machine in capitals",
        _machine(name="Name"),
        "body.name string_pattern_mismatch",
        _PATTERN,
        Kind.VM,
    ),
    Rule(
        "ssh-keys",
        "empty key of a machine",
        _machine(ssh_key=""),
        "body.ssh_key string_too_short",
        "String should have at least 1 character",
        Kind.VM,
    ),
)


@probe(
    Level.FREE,
    *dict.fromkeys(rule.claim for rule in RULES),
    "422-details",
    "error-forms",
    "texts",
    requests=len(RULES),
)
async def rules(bench: Bench) -> None:
    """Send one deploy for each rule, which the service must refuse with a 422 that names the field."""
    notes = bench.notes
    accepted: dict[str, list[str]] = {rule.claim: [] for rule in RULES}
    details: dict[str, Any] = {}
    shapes: set[str] = set()
    for rule in RULES:
        reply = await bench.asker.refused_deploy(rule.kind, rule.body)
        if reply.status != 422:
            accepted[rule.claim].append(rule.key)
            continue
        detail = detail_of(reply)
        if not (isinstance(detail, list) and all(isinstance(each, dict) for each in detail)):
            shapes.add("422 without an array of objects")
            continue
        place, _, kind = rule.problem.partition(" ")
        named = [each for each in detail if place_of(each) == place]
        if not named:
            details[rule.problem] = {"type": kind, "place": sorted(map(place_of, detail))}
            continue
        said = {
            "type": named[0].get("type"),
            "msg": named[0].get("msg"),
            "more": sorted(set(named[0]) - _FIELDS),
        }
        if said != {"type": kind, "msg": rule.message, "more": []}:
            details[rule.problem] = said
        if rule.name == "port 0":
            text = {"msg": rule.message, "ctx": {"error": {}}}
            notes.compare("texts", text, {"msg": said["msg"], "ctx": named[0].get("ctx")})
    for claim, problems in accepted.items():
        notes.compare(claim, {"accepted": []}, {"accepted": problems})
    notes.compare("422-details", {}, details)
    plain = await bench.asker.refused_deploy(Kind.CONTAINER, container())
    if plain.status == 400 and not isinstance(detail_of(plain), str):
        shapes.add("400 without a text")
    notes.compare("error-forms", [], sorted(shapes))


_FIELDS: Final = frozenset({"type", "loc", "msg", "input", "ctx"})


def place_of(problem: Mapping[str, Any]) -> str:
    """Return the place of a problem without list indexes: `body.container_settings.expose.port`."""
    loc = problem.get("loc")
    return ".".join(part for part in loc if isinstance(part, str)) if isinstance(loc, list) else ""


@probe(
    Level.FREE,
    "unknown-plan",
    "400-texts",
    "unknown-fields",
    "content-type",
    "reserved-alone",
    "same-names",
    "ssh-keys",
    "reserved-in-update",
    requests=9,
)
async def forms(bench: Bench) -> None:
    """Send deploys of valid form, which only the missing plan makes the service refuse."""
    asker, notes = bench.asker, bench.notes
    plain = await asker.refused_deploy(Kind.CONTAINER, container())
    notes.compare("unknown-plan", {"status": 400}, {"status": plain.status})
    await _texts(bench, plain)

    async def verdict(body: Any, **headers: str) -> str:
        sent = dict(asker.headers) | headers if headers else None
        reply = await asker.refused_deploy(Kind.CONTAINER, body, headers=sent)
        if reply.status == plain.status:
            return "accepted"
        return f"refused with {reply.status}"

    more = await verdict(
        container()
        | {"surprise": 1, "container_settings": {**container()["container_settings"], "surprise": 1}}
    )
    query = (await asker.ask("GET", "/gpu/instances/", query={"surprise": "1"})).status
    notes.compare("unknown-fields", {"body": "accepted", "query": 200}, {"body": more, "query": query})
    text = await verdict(json.dumps(container()).encode(), **{"Content-Type": "text/plain"})
    notes.compare("content-type", "accepted", text)
    alone = await verdict(container(environment=[{"name": "SSH_PUBKEY", "value": "ssh-ed25519 AAAA"}]))
    notes.compare("reserved-alone", "accepted", alone)
    twice = {
        "ports": await verdict(container(expose=[_PORT, _PORT])),
        "variables": await verdict(
            container(environment=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}])
        ),
    }
    notes.compare("same-names", {"ports": "accepted", "variables": "accepted"}, twice)
    any_text = await verdict(container() | {"ssh_key": "not a key"})
    if any_text != "accepted":
        notes.compare("ssh-keys", {"any text": "accepted"}, {"any text": any_text})
    await _reserved_in_update(bench)


async def _texts(bench: Bench, plain: Reply) -> None:
    """Compare the texts of the refusals that cost nothing."""
    expected, observed = {}, {}
    if plain.status == 400:
        expected["plan"], observed["plan"] = "Plan is no longer available", detail_of(plain)
    over = next((row for row in bench.account.with_status("ENDED", "FAILED", kind=Kind.CONTAINER)), None)
    if over is not None:  # a DELETE of an instance that is over cannot change anything
        reply = await bench.asker.ask("DELETE", f"/gpu/instances/{over['id']}")
        expected["delete"], observed["delete"] = "Only ACTIVE instances can be terminated", detail_of(reply)
    bench.notes.compare("400-texts", expected, observed)


async def _reserved_in_update(bench: Bench) -> None:
    over = next(
        (row["id"] for row in bench.account.with_status("ENDED", "FAILED", kind=Kind.CONTAINER)), NO_INSTANCE
    )
    body = {
        "name": "conformance",
        "container_settings": {
            "image": _IMAGE,
            "environment": [{"name": "SSH_PUBKEY", "value": "ssh-ed25519 AAAA"}],
        },
        "ssh_key": "ssh-ed25519 AAAA",
    }
    reply = await bench.asker.ask("PUT", f"/gpu/instances/{over}", body=body)
    if reply.status == 404:
        bench.notes.undecided("reserved-in-update", "the id is checked before the form")
        return
    problems = detail_of(reply)
    places = sorted({place_of(each) for each in problems}) if isinstance(problems, list) else []
    expected = {"status": 422, "places": [f"{_SETTINGS}.environment.name"]}
    bench.notes.compare("reserved-in-update", expected, {"status": reply.status, "places": places})


RULE_PROBES: Final[tuple[Probe, ...]] = (rules, forms)
