"""The control API of the HTTP server below `/_sim/`, for tests in languages other than Python.

Requests and replies are JSON, without a key. Web pages are therefore refused. What a GET shows, a POST to the
same path accepts. The module only translates: `Simulator` and the server do the work. The control API is no
part of the service: the service's paths, faults and trace ignore it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, get_args
from urllib.parse import urlsplit

import attrs

from aiofluence.http.messages import Reply, Request

from .account import KeyState
from .control_fields import (
    BOOLEAN,
    TEXT,
    TEXTS,
    YEAR,
    done,
    elements,
    instance_json,
    integer,
    is_amount,
    is_moment,
    number,
    one_of,
    read_script,
    script_json,
    sentence,
)
from .forms import Fields, RequestRefusedError, read_body
from .instances import ContainerInstance
from .plans import Json
from .profile import PRESETS, Profile
from .programs import Program
from .simulator import Simulator

PREFIX = "/_sim/"
_SEEDS = 2**63 - 1


class ControlledServer(Protocol):
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
    """Handler of the requests below `/_sim/`. A POST answers as a GET of the same path would."""

    def __init__(self, server: ControlledServer) -> None:
        self._server = server
        self._first_scale = server.time_scale
        self._reads: dict[str, Callable[[], Json]] = {
            "state": self._state,
            "clock": self._clock,
            "seed": lambda: {"seed": self._sim.seed},
            "balance": lambda: {"balance": str(self._sim.balance)},
            "key": lambda: {"state": self._sim.key_state},
            "profile": lambda: attrs.asdict(self._sim.profile),
            "programs": self._programs,
            "stock": self._stock,
            "faults": lambda: {"faults": self._faults()},
            "logs": self._logs,
            "ledger": self._ledger,
            "trace": self._trace,
        }
        self._changes: dict[str, Callable[[Fields], None]] = {
            "reset": self._reset,
            "clock": self._set_clock,
            "seed": self._set_seed,
            "balance": self._set_balance,
            "key": self._set_key,
            "profile": self._set_profile,
            "programs": self._set_programs,
            "stock": self._set_stock,
            "faults": self._set_faults,
            "logs": self._print,
        }

    def answer(self, request: Request) -> Reply:
        """Answer one request: 200, 400 with all its `problems`, 404 or 405."""
        name = request.path.removeprefix(PREFIX)
        allowed = self._methods(name)
        if not allowed:
            names = dict.fromkeys([*self._reads, *self._changes])
            there = ", ".join(f"{method} {PREFIX}{each}" for each in names for method in self._methods(each))
            return _reply(404, {"problems": [f"{request.path}: no such path; there are {there}"]})
        if request.method not in allowed:
            allow = ", ".join(allowed)
            problem = f"{request.method}: not here; {request.path} takes {allow}"
            return _reply(405, {"problems": [problem]}, {"Allow": allow})
        self._sim.advance(self._server.now())
        warnings = self._sim.warnings()  # before the faults are forgotten
        try:
            if request.method == "POST":
                self._changes[name](read_body(request.body.strip() or b"{}")[0])
            elif request.method == "DELETE":
                self._sim.clear_faults()
        except RequestRefusedError as refused:
            return _reply(400, {"problems": [sentence(each) for each in refused.body["detail"]]})
        except ValueError as error:
            return _reply(400, {"problems": [str(error)]})
        shown = self._reads["state" if name == "reset" else name]()
        if name == "reset" or request.method == "DELETE":
            shown["warnings"] = warnings
        return _reply(200, shown)

    def _methods(self, name: str) -> list[str]:
        read, change = name in self._reads, name in self._changes
        return ["GET"] * read + ["POST"] * change + ["DELETE"] * (name == "faults")

    @property
    def _sim(self) -> Simulator:
        return self._server.simulator

    # Changes

    def _reset(self, body: Fields) -> None:
        seed = body.given("seed", *integer(0, _SEEDS), None)
        done(body)
        self._sim.reset(seed)
        self._server.rescale(self._first_scale)

    def _set_seed(self, body: Fields) -> None:
        seed = body.given("seed", *integer(0, _SEEDS))
        done(body)
        self._sim.seed = seed

    def _set_clock(self, body: Fields) -> None:
        seconds = body.given("advance", *number(0, YEAR), 0)
        until = body.given("now", *number(0, 10 * YEAR), 0)
        moment = body.given("time", "a date and time with a time zone", is_moment, None)
        scale = body.given("scale", *number(0.001, 1_000_000), None)
        done(body)
        now, time = self._sim.now, self._sim.time
        if moment is not None:
            until = max(until, now + (datetime.fromisoformat(moment) - time).total_seconds())
        if until > 10 * YEAR:
            raise ValueError("time: must be less than ten years ahead")
        self._sim.advance(max(until, now + seconds))
        if scale is not None:
            self._server.rescale(scale)

    def _set_balance(self, body: Fields) -> None:
        amount = body.given("balance", "an amount as text", is_amount)
        done(body)
        self._sim.set_balance(amount)

    def _set_key(self, body: Fields) -> None:
        state = body.given("state", *one_of(*get_args(KeyState)))
        done(body)
        self._sim.key_state = state

    def _set_profile(self, body: Fields) -> None:
        name = body.given("name", *one_of(*PRESETS), None)
        changes = body.rest()
        body.know(*changes)  # the profile checks these fields
        done(body)
        profile = self._sim.profile if name is None else Profile.of(name)
        self._sim.profile = profile.replace(**changes)

    def _set_programs(self, body: Fields) -> None:
        programs = {}
        for one in elements(body, "programs"):
            image = one.given("image", *TEXT)
            seconds = one.given("seconds", *number(0, YEAR), None)
            code = one.given("code", *integer(0, 255), 0)
            lines = one.given("lines", *TEXTS, [])
            pullable = one.given("pullable", *BOOLEAN, True)
            done(one)
            programs[image] = Program(seconds, code, lines, pullable)
        if "programs" in body.values:
            self._sim.programs.clear()
        self._sim.programs.update(programs)

    def _set_stock(self, body: Fields) -> None:
        changes = []
        for one in elements(body, "stock"):
            plan_id = one.given("plan_id", "the id of a plan", self._is_plan)
            one.know("plan", "kind", "gpu")  # a GET shows these fields for people
            sold_out = one.given("sold_out", *BOOLEAN, None)
            capacity = one.given("capacity", *integer(0, 1_000_000), None)
            done(one)
            changes.append((plan_id, sold_out, capacity, "capacity" in one.values))
        for plan_id, sold_out, capacity, is_limited in changes:
            if sold_out is not None:
                (self._sim.sell_out if sold_out else self._sim.restock)(plan_id)
            if is_limited:
                self._sim.set_capacity(plan_id, capacity)

    def _set_faults(self, body: Fields) -> None:
        scripts = [read_script(one) for one in elements(body, "faults")]
        if "faults" in body.values:
            self._sim.clear_faults()
        for script in scripts:
            self._sim.add_script(script)

    def _print(self, body: Fields) -> None:
        printed = []
        for one in elements(body, "logs"):
            instance_id = one.given("instance_id", "the id of a running container", self._is_running)
            printed.append((instance_id, one.given("lines", *TEXTS)))
            done(one)
        for instance_id, lines in printed:
            self._sim.print(instance_id, *lines)

    def _is_plan(self, plan_id: Any) -> bool:
        return isinstance(plan_id, str) and plan_id in self._sim.catalog.offers

    def _is_running(self, instance_id: Any) -> bool:
        return any(each.id == instance_id and each.started for each in self._containers())

    def _containers(self) -> list[ContainerInstance]:
        return [each for each in self._sim.instances("container") if isinstance(each, ContainerInstance)]

    # Reads

    def _clock(self) -> Json:
        sim = self._sim
        return {"now": sim.now, "time": sim.time.isoformat(), "scale": self._server.time_scale}

    def _state(self) -> Json:
        sim = self._sim
        return {
            **self._clock(),
            "seed": sim.seed,
            "balance": str(sim.balance),
            "spent": str(sim.spent()),
            "reserved": str(sim.reserved()),
            "instances": [instance_json(instance) for instance in sim.instances()],
            "faults": self._faults(),
        }

    def _programs(self) -> Json:
        programs = self._sim.programs.items()
        return {"programs": [{"image": image, **attrs.asdict(does)} for image, does in programs]}

    def _stock(self) -> Json:
        sim = self._sim
        return {
            "stock": [
                {
                    "plan_id": offer.id,
                    "plan": offer.slug,
                    "kind": offer.kind,
                    "gpu": offer.model,
                    "sold_out": offer.id in sim.sold_out,
                    "capacity": sim.capacity(offer.id),
                }
                for offer in sim.catalog.offers.values()
            ]
        }

    def _logs(self) -> Json:
        for each in self._containers():
            each.log.pod.advance(self._sim.now)
        return {
            "logs": [
                {"instance_id": each.id, "lines": [line for pod in each.log.pods for line in pod.lines]}
                for each in self._containers()
            ]
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
        return {
            "requests": [attrs.asdict(seen) | {"effect": seen.effect.value} for seen in self._sim.requests]
        }

    def _faults(self) -> list[Json]:
        """Return the scripts that may still strike."""
        return [script_json(script) for script in self._sim.scripts if script.times != 0]


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


def _reply(status: int, value: Json, headers: Mapping[str, str] | None = None) -> Reply:
    kind = {"Content-Type": "application/json"}
    return Reply(status, kind | dict(headers or {}), json.dumps(value, indent=1).encode() + b"\n")
