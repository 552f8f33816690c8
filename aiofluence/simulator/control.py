"""The control API of the HTTP door, `/_sim/…`: what a test in another language than Python turns and reads.

JSON in, JSON out, no key, and so nothing for web pages. It only translates: everything it does, `Simulator`
and the door do. It is no part of the service, so the service's paths, faults and trace do not know it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias
from urllib.parse import urlsplit

from aiofluence.protocol import Reply, Request

from .catalog import Json
from .faults import Fault
from .instances import Instance
from .routes import operation as operation_of
from .simulator import Simulator

PREFIX = "/_sim/"
_YEAR = 31_536_000
_SEEDS = 2**63 - 1

_Handler: TypeAlias = Callable[["_Body"], Json]


class Door(Protocol):
    """What the control API needs of the server that it belongs to."""

    simulator: Simulator

    @property
    def time_scale(self) -> float:
        """Simulated seconds in one real second."""
        ...

    def now(self) -> float:
        """The simulated second of this moment."""
        ...

    def rescale(self, time_scale: float) -> None:
        """Let time run at another pace from now on."""
        ...


class Control:
    """Answers the requests below `/_sim/`."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._first_scale = door.time_scale
        self._handlers: dict[str, dict[str, _Handler]] = {
            "reset": {"POST": self._reset},
            "seed": {"POST": self._seed},
            "clock": {"POST": self._clock},
            "faults": {"POST": self._fail, "DELETE": self._clear},
            "state": {"GET": lambda body: self._state()},
            "ledger": {"GET": lambda body: self._ledger()},
            "trace": {"GET": lambda body: self._trace()},
        }

    def answer(self, request: Request) -> Reply:
        """The reply to one request: 200, 400 with all its `problems`, 404 or 405."""
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
            body = _Body(request.body if request.method == "POST" else b"")
            return _reply(200, handler(body))
        except _BadRequestError as bad:
            return _reply(400, {"problems": bad.problems})

    @property
    def _sim(self) -> Simulator:
        return self._door.simulator

    # What can be turned

    def _reset(self, body: _Body) -> Json:
        seed = body.integer("seed", 0, _SEEDS, None)
        body.done()
        self._sim.reset(seed)
        self._door.rescale(self._first_scale)
        return self._state()

    def _seed(self, body: _Body) -> Json:
        seed = body.integer("seed", 0, _SEEDS)
        body.done()
        self._sim.seed = seed
        return {"seed": self._sim.seed}

    def _clock(self, body: _Body) -> Json:
        seconds = body.number("advance", 0, _YEAR, 0)
        scale = body.number("scale", 0.001, 1_000_000, None)
        body.done()
        self._sim.advance(self._sim.now + seconds)
        if scale is not None:
            self._door.rescale(scale)
        return self._time()

    def _fail(self, body: _Body) -> Json:
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
            raise _BadRequestError([str(error)]) from None
        return {"faults": self._faults()}

    def _clear(self, body: _Body) -> Json:
        self._sim.clear_faults()
        return {"faults": self._faults()}

    # What can be read

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
        """The scripts that may still strike."""
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
    """Why a request to the control API may come from a web page of another site; empty when it does not.

    A browser sends `Origin` with each request that changes something, and after DNS rebinding the `Host` is
    the other site's. Programs send no `Origin`, and as `Host` the address that they were given.

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
    """Whether the host of `address` is a loopback name or the bound one."""
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


def _fault(body: _Body) -> Callable[[], Fault]:
    """How to make the fault, for when nothing is wrong with the body."""
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


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str)
        and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        and re.fullmatch(r"[ -~]*", text)
        for name, text in value.items()
    )


class _BadRequestError(Exception):
    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems


_REQUIRED: Any = object()


class _Body:
    """Reads one JSON object field by field, noting every problem; `done` raises them all.

    What a field that is wrong reads as is not to be used: call `done` first.
    """

    def __init__(self, raw: bytes) -> None:
        self.problems: list[str] = []
        self._known: list[str] = []
        try:
            values = json.loads(raw, parse_constant=_no_constant) if raw.strip() else {}
        except (ValueError, RecursionError) as error:
            raise _BadRequestError([f"the body is not JSON: {error}"]) from None
        if not isinstance(values, dict):
            raise _BadRequestError(["the body must be a JSON object"])
        self._values: Mapping[str, Any] = values

    def take(self, name: str, expected: str, fits: Callable[[Any], bool], default: Any = _REQUIRED) -> Any:
        """A field. Where it may be absent its default is what it may be as well."""
        self.allow(name)
        if name not in self._values:
            if default is _REQUIRED:
                self.problems.append(f"{name}: required; must be {expected}")
            return default
        value = self._values[name]
        if not (value is None and default is None) and not fits(value):
            given = json.dumps(value)
            shown = given if len(given) <= 60 else f"{given[:60]}…"
            self.problems.append(f"{name}: must be {expected}, not {shown}")
        return value

    def json(self, name: str, *, required: bool = False) -> Any:
        return self.take(name, "JSON", lambda value: True, _REQUIRED if required else None)

    def headers(self) -> Any:
        return self.take("headers", "an object of header names and texts", _are_headers, None)

    def integer(self, name: str, least: int, most: int, default: int | None = _REQUIRED) -> Any:
        expected = f"an integer from {least} to {most}"
        return self.take(name, expected, lambda n: type(n) is int and least <= n <= most, default)

    def number(self, name: str, least: float, most: float, default: float | None = _REQUIRED) -> Any:
        expected = f"a number from {least:g} to {most:,.0f}"
        return self.take(name, expected, lambda n: type(n) in (int, float) and least <= n <= most, default)

    def one_of(self, name: str, options: tuple[str, ...], default: str = _REQUIRED) -> Any:
        value = self.take(name, f"one of {', '.join(options)}", lambda text: text in options, default)
        return value if value in options else None

    def allow(self, *names: str) -> None:
        """Fields that may be there."""
        self._known += names

    def done(self) -> None:
        """Raise what was found, and the fields that nobody asked for.

        Raises:
            _BadRequestError: there was something.
        """
        for name in sorted(self._values.keys() - set(self._known)):
            self.problems.append(f"{name}: no such field here; there are {', '.join(self._known) or 'none'}")
        if self.problems:
            raise _BadRequestError(self.problems)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _reply(status: int, value: Json, headers: Mapping[str, str] | None = None) -> Reply:
    kind = {"Content-Type": "application/json"}
    return Reply(status, kind | dict(headers or {}), json.dumps(value, indent=1).encode() + b"\n")
