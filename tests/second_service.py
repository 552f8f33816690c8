"""A second fake of the GPU Cloud, written only from the wire contract, with episodes of seeded faults.

It shares no code with `aiofluence.simulator`, so the two do not share mistakes. `tests/lives.py` and
`tests/test_months.py` use it. Every state is a function of time: a stale replica shows an earlier time.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any, Final, Literal, TypeAlias

import attrs

from aiofluence import NoReplyError, NotSentError, Reply, Request

START: Final = datetime(2026, 3, 1, 10, tzinfo=UTC)
PLAN: Final = "36cdb646-1246-42d8-b2d1-9480ca546536"
OS_IMAGE: Final = "Ubuntu Server 22.04"
PATHS: Final[Mapping[str, str]] = {
    "container": "/gpu/instances/",
    "vm": "/gpu/instances/vms",
    "baremetal": "/gpu/instances/baremetal",
}
LEASE: Final = 490.0
"""Seconds for which a container may crash before its lease is closed (Akash: 41 checks)."""
_SUPPLY: Final = {
    "vcpu": {"count": 16},
    "memory": {"count": 128, "units": "Gi"},
    "storage": {"count": 120, "units": "Gi"},
    "gpu_count": 1,
}
_GPU: Final = {"vendor": "nvidia", "model": "h200", "vram": "141Gi", "interface": "sxm"}
_PRICING: Final = {"hour": 2.5, "upfront_hours": 3, "currency": "USDC"}
_HTML: Final = {"Content-Type": "text/html"}

Operation: TypeAlias = Literal["deploy", "list", "get", "put", "delete", "other"]


@attrs.frozen(eq=False)
class Episode:
    """A fault, from `start` to `end` by the loop's clock.

    Attributes:
        fault: kind of fault, a key of `FAULTS` in `tests/lives.py`.
        share: share of the requests that the fault strikes.
        on: operations that the fault strikes.
        how: effect of the fault, see `Cloud`.
        times: maximum number of strikes.
    """

    fault: str
    start: float = 0.0
    end: float = float("inf")
    share: float = 1.0
    on: frozenset[str] = frozenset()
    how: Mapping[str, Any] = attrs.field(factory=dict)
    times: float = float("inf")

    @property
    def length(self) -> float:
        """Duration in seconds."""
        return self.end - self.start

    def __str__(self) -> str:
        on = f" on {','.join(sorted(self.on))}" if self.on else ""
        share = f" x{self.share:.2f}" if self.share < 1 else ""
        times = f" {self.times:g} times" if self.times < float("inf") else ""
        how = " ".join(f"{key}={_short(value)}" for key, value in self.how.items())
        return f"{self.start:6.0f}..{self.end:<6.0f} {self.fault}{on}{share}{times} {how}"


@attrs.define(eq=False)
class Row:
    """An instance of the account. Times are in service seconds.

    Attributes:
        born: time of the commit, which may be later than the POST.
        provision: seconds from `born` to ACTIVE or FAILED.
        created: time shown as `created_at`.
        by: run that sent the POST, or "console" for another user of the account.
        ended: time of the end. None before a DELETE is carried out.
        deletes: loop time and run of each accepted DELETE.
        final: status word shown after the end.
        between: status word shown for INITIALIZED.
        stuck: `between` is shown even when the instance is ACTIVE.
        crashes: the command exits and is started again, until the provider closes the lease.
        logs: status of the reply to its logs after the end. 200 means an empty list.
    """

    id: str
    kind: str
    name: str
    born: float
    provision: float
    fails: bool
    created: float
    by: str
    minimum: float = 0.0
    ended: float | None = None
    deletes: list[tuple[float, str]] = attrs.field(factory=list)
    final: str = "ENDED"
    between: str = "INITIALIZED"
    stuck: bool = False
    crashes: bool = False
    logs: int = 200
    image: str = "docker.io/fluencelabs/ubuntu-ssh-root:24.04"
    updates: list[tuple[float, str, str]] = attrs.field(factory=list)
    odd: Mapping[str, Any] = attrs.field(factory=dict)

    def is_over(self, at: float) -> bool:
        """Return True if the instance was deleted, or its lease closed, by that second."""
        if self.crashes and self.kind == "container" and at >= self.born + self.provision + LEASE:
            return True
        return self.ended is not None and at >= self.ended

    def is_started(self, at: float) -> bool:
        """Return True if the command runs. A command that exits is started again."""
        return not self.crashes or (at - self.born) % 60 < 10

    def status(self, at: float) -> str:
        """Return the status at a service second."""
        if self.is_over(at):
            return self.final
        if at < self.born + self.provision:
            return self.between
        if self.fails:
            return "FAILED"
        return self.between if self.stuck else "ACTIVE"

    def is_live(self, at: float) -> bool:
        """Return True if the instance exists and is billed."""
        over = self.is_over(at)
        return at >= self.born and not over and not (self.fails and at >= self.born + self.provision)

    def shown(self, at: float) -> str:
        """Return the image that a detail shows."""
        done = [image for when, image, _ in self.updates if at >= when]
        return done[-1] if done else self.image

    def is_updating(self, at: float) -> bool:
        """Return True if an update is still being applied."""
        return any(at < when for when, _, _ in self.updates)


class Cloud:
    """The service: one account, all kinds, and the episodes of faults.

    Args:
        rng: draws everything that `episodes` leave open.
        episodes: faults. The first one that strikes a request decides the reply.
        lag: seconds from the commit until lists and details show an instance.
        provision: draws the seconds until ACTIVE for each instance.
        fails: share of instances whose provisioning fails.
        minimum: seconds after ACTIVE for which DELETE is refused.
        minimum_of: kinds that have this minimum.
        only_active: refuse DELETE before ACTIVE, as the contract says.
    """

    def __init__(
        self,
        rng: Random,
        episodes: Sequence[Episode] = (),
        *,
        lag: float = 0.0,
        provision: Callable[[], float] = lambda: 150.0,
        fails: float = 0.0,
        minimum: float = 0.0,
        minimum_of: Collection[str] = tuple(PATHS),
        only_active: bool = True,
    ) -> None:
        self.rng = rng
        self.episodes = list(episodes)
        self.lag = lag
        self.provision = provision
        self.fails = fails
        self.minimum = minimum
        self.minimum_of = minimum_of
        self.only_active = only_active
        self.shift = 0.0
        self.rows: dict[str, Row] = {}
        self.log: list[tuple[float, str, str]] = []
        self.posts: list[tuple[str, str, str]] = []
        self.requests = 0
        self.is_lean = False
        self._struck: dict[Episode, int] = {}
        self._encoded: dict[str, str] = {}
        self._holding: Callable[[str, str], bool] = lambda run, kind: False

    # Time

    @property
    def now(self) -> float:
        """Service seconds: the loop's clock plus the suspended time of the machine."""
        return _loop_time() + self.shift

    def suspend(self, seconds: float) -> None:
        """Advance the service's clock while the loop's clock stops."""
        self.shift += seconds
        self.note("-", f"suspended for {seconds:.0f} s")

    def heal(self) -> None:
        """End every episode, and let every row show its true state from now on."""
        self.episodes.clear()
        for row in self.rows.values():
            row.stuck = False
            row.between = "INITIALIZED"
            row.odd = {}
            row.final = "ENDED"

    def know_holders(self, holding: Callable[[str, str], bool]) -> None:
        """Set the function that says which runs hold a live instance of a kind, for the fault `thin`."""
        self._holding = holding

    def forget_requests(self) -> None:
        """Drop the counts so far, so that the memory of a service that runs for months does not grow."""
        self.posts.clear()
        self._struck.clear()
        self._encoded = {id: text for id, text in self._encoded.items() if id in self.rows}

    def note(self, run: str, text: str) -> None:
        """Add a line to the timeline."""
        self.log.append((_loop_time(), run, text))

    # The account

    def add(self, kind: str, name: str, *, age: float, by: str = "console", over: bool = False) -> Row:
        """Add an instance that existed before the first run."""
        now = self.now
        row = Row(str(self._uuid()), kind, name, now - age, 60.0, False, now - age, by)
        if over:
            row.ended = now - age / 2
        self.rows[row.id] = row
        return row

    def live(self) -> list[Row]:
        """Return all rows that are billed at this moment."""
        return [row for row in self.rows.values() if row.is_live(self.now)]

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.rng.getrandbits(128), version=4)

    # Requests

    def receive(self, request: Request, run: str) -> Reply | Exception | float:
        """Carry out one request. Return its reply, the error of a lost reply, or the seconds of silence."""
        self.requests += 1
        operation, kind, id, part = _parse(request)
        reply: Any = None
        for episode in self._striking(operation):
            reply = self._struck_by(episode, request, run, operation, kind, id)
            if reply is not None:
                if not self.is_lean:
                    self._note(request, run, reply, episode.fault)
                break
        else:
            reply = self._handle(request, run, operation, kind, id, part)
            if not self.is_lean:
                self._note(request, run, reply, "")
        if operation == "deploy" and not isinstance(reply, NotSentError):
            self.posts.append((run, kind, json.loads(request.body)["name"]))
        if isinstance(reply, Reply):
            return Reply(reply.status, {**self._date(), **reply.headers}, reply.body)
        assert isinstance(reply, Exception | float)
        return reply

    def _note(self, request: Request, run: str, reply: Any, fault: str) -> None:
        name = json.loads(request.body)["name"] if request.method == "POST" else ""
        result = (
            reply.status
            if isinstance(reply, Reply)
            else "silence"
            if isinstance(reply, float)
            else type(reply).__name__
        )
        known = self.rows.get(request.path.rpartition("/")[2])
        name = name or (f"{known.name} [{known.id[:8]}]" if known else request.path.removeprefix("/gpu"))
        self.note(run, f"{request.method} {name} -> {result}{f' ({fault})' if fault else ''}")

    def _date(self) -> dict[str, str]:
        skew = 0.0
        for episode in self._striking("date"):
            if episode.how["skew"] is None:
                return {}
            skew += episode.how["skew"]
        date = START + timedelta(seconds=self.now + skew)
        return {"Date": format_datetime(date.replace(microsecond=0), usegmt=True)}

    def _striking(self, operation: str) -> Iterable[Episode]:
        """Iterate over the episodes that strike this request, in order."""
        now = _loop_time()
        for episode in self.episodes:
            if (
                episode.start <= now < episode.end
                and operation in episode.on
                and self._struck.get(episode, 0) < episode.times
                and (episode.share >= 1 or self.rng.random() < episode.share)
            ):
                if episode.times < float("inf"):
                    self._struck[episode] = self._struck.get(episode, 0) + 1
                yield episode

    # Faults

    def _struck_by(
        self, episode: Episode, request: Request, run: str, operation: str, kind: str, id: str
    ) -> Any:
        """Return the answer to a request that `episode` strikes, or None if the request passes."""
        how = episode.how
        commit = how.get("commit", False)
        if isinstance(commit, float):
            commit = self.rng.random() < commit
        match how["act"]:
            case "lose":
                if commit:
                    self._handle(request, run, operation, kind, id, "", late=how.get("late", 0.0))
                return self._lost(how["form"], sent=True)
            case "page":
                if commit:
                    self._handle(request, run, operation, kind, id, "")
                return Reply(how["status"], how.get("headers", _HTML), how["body"])
            case "odd id" if operation == "deploy":
                real = self._handle(request, run, operation, kind, id, "")
                if real.status != 201:
                    return real
                made = json.loads(real.body)["instance_id"]
                return _json(how["body"](made), 201)
            case "noop" if operation == "delete":
                real = self._handle(request, run, operation, kind, id, "", dry=True)
                return real if real.status != 204 else Reply(204)
            case "slow end" if operation == "delete":
                return self._handle(request, run, operation, kind, id, "", late=how["late"])
            case "rows" if operation == "list":
                return self._list(run, kind, how)
            case "stale" if operation in ("list", "get"):
                at = self.now - how["by"]
                return self._list(run, kind, {}, at) if operation == "list" else self._get(kind, id, at)
        return None

    def _lost(self, form: str, *, sent: bool) -> Any:
        match form:
            case "hang":
                return 1e9
            case "reset":
                return NoReplyError("connection reset by peer")
            case "cut":
                return NoReplyError("the connection broke within the body", phase="head")
            case "unreachable":
                return NotSentError("connection refused")
            case "strange":
                return StrangeError("the proxy library failed")
        return Reply(int(form), _HTML, f"<html><title>{form}</title></html>".encode())

    # The contract

    def _handle(
        self,
        request: Request,
        run: str,
        operation: str,
        kind: str,
        id: str,
        part: str,
        *,
        late: float = 0.0,
        dry: bool = False,
    ) -> Reply:
        match operation:
            case "deploy":
                return self._deploy(request, run, kind, late)
            case "list":
                return self._list(run, kind, {})
            case "get":
                return self._get(kind, id, self.now, part)
            case "put":
                return self._put(request, run, id)
            case "delete":
                return self._delete(run, kind, id, late, dry)
        if request.path == "/gpu/plans/":
            plan = {"id": PLAN, "name": "h200-141gi", "supply": _SUPPLY, "gpu_model": _GPU}
            return _json([{"plan": plan | {"pricing": _PRICING}, "attributes": {"location": ["US"]}}])
        if request.path.startswith("/gpu/plans/"):
            return _json({"data": []})
        return _json([])

    def _deploy(self, request: Request, run: str, kind: str, late: float) -> Reply:
        asked = json.loads(request.body)
        born = self.now + late
        created = self.now if self.rng.random() < 0.5 else born
        row = Row(
            id=str(self._uuid()),
            kind=kind,
            name=asked["name"],
            born=born,
            provision=self.provision(),
            fails=self.rng.random() < self.fails,
            created=created,
            by=run,
            minimum=self.minimum if kind in self.minimum_of else 0.0,
        )
        for episode in self._striking("row"):
            for field, value in episode.how.items():
                setattr(row, field, value)
        self.rows[row.id] = row
        if not self.is_lean:
            self.note(run, f"  committed {row.name} [{row.id[:8]}]{f' {late:.0f} s later' if late else ''}")
        return _json({"instance_id": row.id}, 201)

    def _visible(self, row: Row, at: float) -> bool:
        return at >= row.born + (self.lag if row.by != "console" else 0.0)

    def _list(self, run: str, kind: str, how: Mapping[str, Any], at: float | None = None) -> Reply:
        at = self.now if at is None else at
        rows = [row for row in self.rows.values() if row.kind == kind and self._visible(row, at)]
        if self.is_lean:
            return Reply(200, {"Content-Type": "application/json"}, self._lean_list(rows, at))
        rows.sort(key=lambda row: row.created)
        headers: dict[str, str] = {}
        if how.get("order") == "random":
            self.rng.shuffle(rows)
        elif how.get("order") == "newest":
            rows.reverse()
        if "page" in how and len(rows) > how["page"]:
            rows = rows[: how["page"]]
            headers["Link"] = f'<{PATHS[kind]}?page=2>; rel="next"'
        if "cap" in how:
            rows = rows[: how["cap"]]
        if how.get("thin") and self._holding(run, kind):
            rows = []
        shown: list[Any] = [self._summary(row, at) for row in rows]
        if "break" in how:
            for place in range(len(shown)):
                if self.rng.random() < how["break"]:
                    shown[place] = how["with"](shown[place])
        if how.get("add"):
            shown.insert(self.rng.randint(0, len(shown)), how["add"])
        body: Any = shown
        if how.get("null") and not shown:
            body = None
        return Reply(200, {"Content-Type": "application/json", **headers}, json.dumps(body).encode())

    def _lean_list(self, rows: list[Row], at: float) -> bytes:
        """Return the body of a LIST. Rows that have ended are encoded only once."""
        shown = []
        for row in rows:
            text = self._encoded.get(row.id)
            if text is None:
                text = json.dumps(self._summary(row, at))
                if not row.is_live(at):
                    self._encoded[row.id] = text
            shown.append(text)
        return f"[{', '.join(shown)}]".encode()

    def _get(self, kind: str, id: str, at: float, part: str = "") -> Reply:
        row = self.rows.get(id)
        if row is None or row.kind != kind or not self._visible(row, at):
            return _json({"detail": "Instance not found"}, 404)
        status = row.status(at)
        if part and row.logs != 200 and not row.is_live(at):
            return _json({"detail": "No pods found"}, row.logs)
        if part:
            return _json([])
        active = status == "ACTIVE"
        updating = row.is_updating(at)
        detail = self._summary(row, at) | {
            "billing": {
                "hourly_usage": 2.5 if active else 0,
                "total_spendings": 2.5,
                "reserved_amount": 5.0 if active else 0,
                "next_billing_period": None,
            },
            "network": {"domain": "host.example", "forwarded_ports": [], "uri": None} if active else None,
        }
        del detail["domain"]
        if kind == "container":
            detail["container_status"] = (
                "STARTED" if active and not updating and row.is_started(at) else "NOT_STARTED"
            )
            detail["container_info"] = {
                "image": row.shown(at),
                "expose": [{"port": "22", "protocol": "tcp"}],
                "environment": [],
                "startup_command": None,
            }
        else:
            detail |= {"availability": kind, "os_image": OS_IMAGE, "ssh_key": "ssh-ed25519 AAAA x@y"}
            detail["ssh_connection"] = "ssh ubuntu@203.0.113.7" if active else None
        return _json({**detail, **row.odd})

    def _summary(self, row: Row, at: float) -> dict[str, Any]:
        status = row.status(at)
        return {
            "id": row.id,
            "name": row.name,
            "instance_status" if row.kind == "container" else "status": status,
            "resources": {"supply": _SUPPLY, "gpu_model": _GPU},
            "domain": "host.example" if status == "ACTIVE" else None,
            "location": "US",
            "created_at": _iso(row.created),
            "updated_at": _iso(row.created),
            **row.odd,
        }

    def _put(self, request: Request, run: str, id: str) -> Reply:
        row = self.rows.get(id)
        if row is None or not self._visible(row, self.now):
            return _json({"detail": "Instance not found"}, 404)
        if row.status(self.now) != "ACTIVE":
            return _json({"detail": "Only ACTIVE instances can be updated"}, 400)
        if row.is_updating(self.now):
            return _json({"detail": "Previous update is still being applied"}, 400)
        asked = json.loads(request.body)
        row.name = asked.get("name") or row.name
        if image := (asked.get("container_settings") or {}).get("image"):
            row.updates.append((self.now + self.rng.uniform(3, 45), image, run))
        return Reply(204)

    def _delete(self, run: str, kind: str, id: str, late: float, dry: bool) -> Reply:
        row = self.rows.get(id)
        now = self.now
        if row is None or row.kind != kind or not self._visible(row, now):
            return _json({"detail": "Instance not found"}, 404)
        if row.status(now) in ("ENDED", "FAILED", row.final):
            return _json({"detail": "Only ACTIVE instances can be terminated"}, 400)
        if row.status(now) != "ACTIVE" and self.only_active:
            return _json({"detail": "Only ACTIVE instances can be terminated"}, 400)
        if now < row.born + row.provision + row.minimum:
            return _json({"detail": "Minimum runtime not met"}, 400)
        row.deletes.append((_loop_time(), run))
        if not dry:
            ends = now + late
            row.ended = ends if row.ended is None else min(row.ended, ends)
        return Reply(204)


class StrangeError(Exception):
    """An error that no wire documents."""


class SecondWire:
    """Wire of one run to a `Cloud` that sends each request once."""

    def __init__(self, cloud: Cloud, run: str, latency: float = 0.05) -> None:
        self.cloud = cloud
        self.run = run
        self.latency = latency
        self.is_dead = False

    async def send(self, request: Request) -> Reply:
        """Send `request` exactly once.

        Raises:
            NotSentError: the request never arrived.
            NoReplyError: the request may have arrived.
        """
        await asyncio.sleep(self.latency * (0.5 + self.cloud.rng.random()))
        if self.is_dead:
            raise NotSentError("the wire is closed")
        answer = self.cloud.receive(request, self.run)
        await asyncio.sleep(
            min(answer, request.timeout.total)
            if isinstance(answer, float)
            else self.latency * (0.5 + self.cloud.rng.random())
        )
        if isinstance(answer, float) or self.is_dead:
            raise NoReplyError(f"no answer within {request.timeout.total:g} s")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Close permanently."""
        self.is_dead = True


def _parse(request: Request) -> tuple[Operation, str, str, str]:
    """Return operation, kind, id, and the requested part of the detail."""
    path = request.path
    if not path.startswith("/gpu/instances"):
        return "other", "", "", ""
    parts = path.removeprefix("/gpu/instances").strip("/").split("/")
    kind = "container"
    if parts[0] in ("vms", "baremetal"):
        kind = "vm" if parts[0] == "vms" else "baremetal"
        parts = parts[1:]
    id = parts[0] if parts else ""
    part = parts[1] if len(parts) > 1 else ""
    if not id:
        return ("deploy" if request.method == "POST" else "list"), kind, "", ""
    operations: dict[str, Operation] = {"GET": "get", "PUT": "put", "DELETE": "delete"}
    return operations[request.method], kind, id, part


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _iso(second: float) -> str:
    return (START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _short(value: Any) -> str:
    if callable(value):
        return str(getattr(value, "__name__", "..."))
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
