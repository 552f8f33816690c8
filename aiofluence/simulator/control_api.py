"""The control API of the HTTP server below `/_sim/`, for tests in languages other than Python.

Requests and replies are JSON, without a key. Web pages are therefore refused. The module only translates:
`Simulator` and the server do the work. The control API is no part of the service: the service's paths, faults
and trace ignore it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, get_args
from urllib.parse import urlsplit

import attrs

from aiofluence.http.messages import Reply, Request

from .account import KeyState
from .control_body import BadRequestError, Body
from .faults import Fault
from .instances import Instance
from .plans import Json
from .profile import PRESETS, Profile
from .programs import Program
from .routes import operation as operation_of
from .simulator import Simulator

PREFIX = "/_sim/"
_YEAR = 31_536_000
_SEEDS = 2**63 - 1

_Handler: TypeAlias = Callable[[Body], Json]


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


class Door(Protocol):
    """Interface of the server that the control API needs."""

    simulator: Simulator

    @property
    def time_scale(self) -> float:
        """Simulated seconds per real second."""
        ...

    def now(self) -> float:
        """Return the present simulated second."""
        ...

    def rescale(self, time_scale: float) -> None:
        """Change the pace of time from now on."""
        ...


class Control:
    """Handler of the requests below `/_sim/`."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._first_scale = door.time_scale
        self._handlers: dict[str, dict[str, _Handler]] = {
            "reset": {"POST": self._reset},
            "seed": {"POST": self._seed},
            "clock": {"POST": self._clock},
            "profile": {"GET": lambda body: self._profile(), "POST": self._change_profile},
            "programs": {"POST": self._program},
            "capacity": {"POST": self._capacity},
            "key": {"POST": self._key},
            "faults": {"POST": self._fail, "DELETE": self._clear},
            "state": {"GET": lambda body: self._state()},
            "ledger": {"GET": lambda body: self._ledger()},
            "trace": {"GET": lambda body: self._trace()},
        }

    def answer(self, request: Request) -> Reply:
        """Answer one request: 200, 400 with all its `problems`, 404 or 405."""
        methods = self._handlers.get(request.path.removeprefix(PREFIX))
        if methods is None:
            there = ", ".join(
                f"{method} {PREFIX}{name}" for name, methods in self._handlers.items() for method in methods
            )
            return _reply(404, {"problems": [f"{request.path}: no such path; there are {there}"]})
        handler = methods.get(request.method)
        if handler is None:
            allow = ", ".join(methods)
            problem = f"{request.method}: not here; {request.path} takes {allow}"
            return _reply(405, {"problems": [problem]}, {"Allow": allow})
        self._sim.advance(self._door.now())
        try:
            body = Body(request.body if request.method == "POST" else b"")
            return _reply(200, handler(body))
        except BadRequestError as bad:
            return _reply(400, {"problems": bad.problems})

    @property
    def _sim(self) -> Simulator:
        return self._door.simulator

    # Changes

    def _reset(self, body: Body) -> Json:
        seed = body.integer("seed", 0, _SEEDS, None)
        body.done()
        self._sim.reset(seed)
        self._door.rescale(self._first_scale)
        return self._state()

    def _seed(self, body: Body) -> Json:
        seed = body.integer("seed", 0, _SEEDS)
        body.done()
        self._sim.seed = seed
        return {"seed": self._sim.seed}

    def _clock(self, body: Body) -> Json:
        seconds = body.number("advance", 0, _YEAR, 0)
        scale = body.number("scale", 0.001, 1_000_000, None)
        body.done()
        self._sim.advance(self._sim.now + seconds)
        if scale is not None:
            self._door.rescale(scale)
        return self._time()

    def _profile(self) -> Json:
        return attrs.asdict(self._sim.profile)

    def _change_profile(self, body: Body) -> Json:
        name = body.one_of("name", tuple(PRESETS), None)
        changes = body.rest()
        body.done()
        try:
            profile = self._sim.profile if name is None else Profile.of(name)
            self._sim.profile = profile.replace(**changes)
        except ValueError as error:
            raise BadRequestError([str(error)]) from None
        return self._profile()

    def _program(self, body: Body) -> Json:
        image = body.text("image")
        seconds = body.number("seconds", 0, _YEAR, None)
        code = body.integer("code", 0, 255, 0)
        lines = body.take("lines", "an array of texts", _are_texts, [])
        pullable = body.take("pullable", "true or false", lambda value: type(value) is bool, True)
        body.done()
        self._sim.programs[image] = Program(seconds, code, lines, pullable)
        return {"programs": {name: attrs.asdict(does) for name, does in self._sim.programs.items()}}

    def _capacity(self, body: Body) -> Json:
        plan_id = body.text("plan_id")
        instances = body.integer("instances", 0, 1_000_000)
        body.done()
        try:
            self._sim.set_capacity(plan_id, instances)
        except LookupError as error:
            raise BadRequestError([f"plan_id: {error.args[0]}"]) from None
        return {"plan_id": plan_id, "instances": instances}

    def _key(self, body: Body) -> Json:
        state = body.one_of("state", get_args(KeyState))
        body.done()
        self._sim.key_state = state
        return {"state": state}

    def _fail(self, body: Body) -> Json:
        operation = body.take("operation", 'such as "POST /gpu/instances/", or "*"', _is_operation)
        make = _fault(body)
        times = body.take("times", "an integer from 1, or null for all", _are_times, 1)
        skip = body.integer("skip", 0, 1_000_000, 0)
        when = body.one_of("when", ("before", "after"), "before")
        late = body.number("commit_after", 0, _YEAR, None)
        body.done()
        try:
            self._sim.fail(operation, make(), times=times, skip=skip, when=when, commit_after=late)
        except ValueError as error:
            raise BadRequestError([str(error)]) from None
        return {"faults": self._faults()}

    def _clear(self, body: Body) -> Json:
        self._sim.clear_faults()
        return {"faults": self._faults()}

    # Reads

    def _time(self) -> Json:
        sim = self._sim
        return {"now": sim.now, "time": sim.time.isoformat(), "scale": self._door.time_scale}

    def _state(self) -> Json:
        sim = self._sim
        return {
            **self._time(),
            "seed": sim.seed,
            "balance": str(sim.balance),
            "spent": str(sim.spent()),
            "reserved": str(sim.reserved()),
            "instances": [_instance(instance) for instance in sim.instances()],
            "faults": self._faults(),
        }

    def _ledger(self) -> Json:
        entries = [
            {
                "at": entry.at,
                "instance_id": entry.instance_id,
                "kind": entry.kind,
                "amount": str(entry.amount),
                "balance_after": str(entry.balance_after),
            }
            for entry in self._sim.ledger
        ]
        opening, balance = self._sim.opening_balance, self._sim.balance
        return {"opening_balance": str(opening), "balance": str(balance), "entries": entries}

    def _trace(self) -> Json:
        requests = [
            {
                "at": seen.at,
                "method": seen.method,
                "path": seen.path,
                "operation": seen.operation,
                "status": seen.status,
                "effect": seen.effect.value,
            }
            for seen in self._sim.requests
        ]
        return {"requests": requests}

    def _faults(self) -> list[Json]:
        """Return the scripts that may still strike."""
        return [
            {
                "operation": script.operation,
                "fault": script.fault.effect.value,
                "times": script.times,
                "skip": script.skip,
                "when": script.when,
                "commit_after": script.commit_after,
            }
            for script in self._sim.scripts
            if script.times != 0
        ]


def foreign(hosts: Sequence[str], origins: Sequence[str], bound: str) -> str:
    """Return why a request to the control API may come from a web page of another site, or an empty text.

    A browser sends `Origin` with each request that changes something. After DNS rebinding, `Host` names the
    other site. Programs send no `Origin`. Their `Host` is the address that they were given.

    Args:
        hosts: values of the `Host` header.
        origins: values of the `Origin` header.
        bound: host that the server listens on.
    """
    for header, values in (("Host", [f"//{host}" for host in hosts]), ("Origin", origins)):
        if len(values) > 1 or not all(_is_own(value, bound) for value in values):
            return f"{header}: only this machine's own names are accepted here, such as localhost"
    return ""


def _is_own(address: str, bound: str) -> bool:
    """Return True if the host of `address` is a loopback name or the bound one."""
    try:
        host = (urlsplit(address).hostname or "").removesuffix(".")
    except ValueError:
        return False
    if (host and host == bound.lower()) or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _instance(instance: Instance) -> Json:
    bill = instance.bill
    return {
        "id": instance.id,
        "kind": instance.kind,
        "name": instance.name,
        "status": instance.state.value,
        "failure": instance.failure,
        "created_at": instance.created_at,
        "hourly": str(bill.hourly),
        "spent": str(bill.spent),
        "reserved": str(bill.reserved),
    }


def _fault(body: Body) -> Callable[[], Fault]:
    """Return a function that makes the fault. Call it only if the body has no problem."""
    kind = body.one_of("fault", ("status", "body", "slow", "reset", "hang", "refuse", "cut"))
    if kind == "status":
        code, content, headers = body.integer("code", 200, 599), body.json("body"), body.headers()
        return lambda: Fault.status(code, content, headers)
    if kind == "body":
        content, headers = body.json("body", required=True), body.headers()
        return lambda: Fault.body(content, headers)
    if kind == "slow":
        seconds = body.number("seconds", 0.001, _YEAR)
        return lambda: Fault.slow(seconds)
    if kind is None:
        body.allow("code", "body", "headers", "seconds")
    return {"hang": Fault.hang, "refuse": Fault.refuse, "cut": Fault.cut}.get(kind, Fault.reset)


def _is_operation(value: Any) -> bool:
    method, _, path = str(value).partition(" ")
    return value == "*" or (isinstance(value, str) and operation_of(method, path) is not None)


def _are_times(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 1)


def _reply(status: int, value: Json, headers: Mapping[str, str] | None = None) -> Reply:
    kind = {"Content-Type": "application/json"}
    return Reply(status, kind | dict(headers or {}), json.dumps(value, indent=1).encode() + b"\n")
