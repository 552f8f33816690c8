"""A third fake of the service, written from the contract and the claims, with switchable deviations.

It shares no code with the simulator or `tests/second_service.py`. Names of deviations are ids of claims.
Every state is a function of time: nothing runs by itself.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

import attrs

from aiofluence import Reply, Request
from tests.conformance.small_shell import output_of

START: Final = datetime(2026, 5, 4, 8, 2, tzinfo=UTC)
KEY: Final = "canary-key-of-the-account"
PLAN: Final = "11111111-2222-4333-8444-555555555555"
OPTION: Final = "66666666-7777-4888-8999-aaaaaaaaaaaa"
OTHER_OPTION: Final = "bbbbbbbb-7777-4888-8999-aaaaaaaaaaaa"
PRICE: Final = 0.752

FREE: Final = (
    *("wrong-key", "malformed-key", "redirect", "not-found", "unknown-id", "last-form", "unknown-fields"),
    *("content-type", "pace", "unknown-plan", "minimum-price", "422-details", "400-texts", "check-order"),
    *("machine-names", "countries", "ssh-keys", "credentials", "limits", "restrictions", "balances", "me"),
    *(
        "fields",
        "detail-domain",
        "newest-first",
        "failed-detail",
        "next-period",
        "usage-after-end",
        "logs-gone",
    ),
    *("event-form", "log-form", "cents"),
)
REFUNDED: Final = ("deploy-status", "list-lag", "logs-creating", "events-stay")
PAID: Final = ("downtime", "update-time", "long-line", "last-max", "old-pod")
DEVIATIONS: Final = (*FREE, *REFUNDED, *PAID)

_SUPPLY: Final = {
    "vcpu": {"count": 4},
    "memory": {"count": 16, "units": "Gi"},
    "storage": {"count": 50, "units": "Gi"},
    "gpu_count": 1,
}
_GPU: Final = {"vendor": "nvidia", "model": "a10", "vram": "24Gi", "interface": "pcie"}
_JSON: Final = {"Content-Type": "application/json"}
_FAR: Final = float("inf")


class Refused(Exception):
    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.detail, self.headers = status, detail, headers or {}


@attrs.define
class Config:
    """Configuration that an update sets: `sent` and `done` are seconds of the service."""

    image: str
    command: str | None
    sent: float
    done: float
    pod: str

    def program(self) -> tuple[list[str], float | None]:
        """Lines of one run, and its seconds. None means that it stays."""
        if self.command is not None:
            return output_of(self.command)
        return [], 0.5 if "ubuntu" in self.image else None


@attrs.define(eq=False)
class Row:
    id: str
    kind: str
    name: str
    born: float
    active: float
    fails: bool = False
    ended: float = _FAR
    environment: list[Any] = attrs.field(factory=list)
    expose: list[Any] = attrs.field(factory=list)
    configs: list[Config] = attrs.field(factory=list)
    os_image: str = "Rocky 9"

    def status(self, at: float) -> str:
        if at >= self.ended:
            return "ENDED"
        return "INITIALIZED" if at < self.active else "FAILED" if self.fails else "ACTIVE"

    def config(self, at: float) -> Config:
        """Configuration that the detail shows."""
        return [each for each in self.configs if each.done <= at or each is self.configs[0]][-1]

    def run(self, at: float) -> tuple[bool, float, int]:
        """Return True if the program runs, the beginning of the latest run, and its number."""
        config = self.config(at)
        begin = max(config.done, self.active) + (4.0 if config is self.configs[0] else 0.0)
        _, seconds = config.program()
        if at < begin or "no-such-image" in config.image or self.status(at) != "ACTIVE":
            return False, begin, 0
        number, pause = 1, 1.0
        while seconds is not None and at >= begin + seconds:
            if at < begin + seconds + pause:
                return False, begin, number
            begin += seconds + pause
            number += 1
            pause = 10.0 if pause == 1.0 else min(pause * 2, 300.0)
        return True, begin, number


class Deviating:
    """A `Wire` to the service. `deviations` are the claims that it contradicts.

    Attributes:
        rows: instances, oldest first.
        spent: USDC spent by instances so far.
    """

    def __init__(self, deviations: Collection[str] = (), *, canary: str = "", age: float = 7200.0) -> None:
        assert set(deviations) <= set(DEVIATIONS)
        self.deviations = frozenset(deviations)
        self.canary = canary
        self.rows: list[Row] = []
        self._zero: float | None = None
        self._tokens, self._at = 40.0, 0.0
        self._history(age)

    def _history(self, age: float) -> None:
        name = self.canary or "earlier"
        for index, (kind, born, active, fails, ended) in enumerate(
            (
                ("container", -age, 70.0, False, -age + 900),
                ("vms", -age + 60, 119.0, False, -age + 4000),
                ("vms", -age + 120, 33.0, True, _FAR),
                ("container", -600.0, 70.0, False, _FAR),
                ("vms", -500.0, 119.0, False, _FAR),
            )
        ):
            row = Row(
                str(uuid.UUID(int=index + 77)), kind, f"{name}-{index}", born, born + active, fails, ended
            )
            if kind == "container":
                row.expose = [{"port": "22", "protocol": "tcp"}, {"port": "80", "protocol": "http"}]
                row.environment = [{"name": "TOKEN", "value": f"{name}-value"}]
                command = f"echo {name}; seq 1 40; sleep 900000"
                row.configs = [Config("docker.io/library/app:1", command, born, born, _pod(index, 0))]
            self.rows.append(row)

    def has(self, claim: str) -> bool:
        return claim in self.deviations

    @property
    def now(self) -> float:
        loop = asyncio.get_running_loop()
        if self._zero is None:
            self._zero = loop.time()
        return loop.time() - self._zero

    @property
    def live(self) -> list[Row]:
        return [row for row in self.rows if row.status(self.now) in ("INITIALIZED", "ACTIVE")]

    # The wire

    async def send(self, request: Request) -> Reply:
        await asyncio.sleep(0.01)
        reply = self.answer(request)
        await asyncio.sleep(0.01)
        return reply

    async def aclose(self) -> None: ...

    def answer(self, request: Request) -> Reply:
        try:
            status, value, headers = self._answer(request)
        except Refused as refused:
            detail = {"detail": refused.detail} if refused.status not in (401, 403) else refused.detail
            status, value, headers = refused.status, detail, refused.headers
        date = {"Date": format_datetime(START + timedelta(seconds=self.now), usegmt=True)}
        body = b"" if value is None else json.dumps(value).encode()
        return Reply(status, {**date, **(_JSON if body else {}), **headers}, body)

    def _answer(self, request: Request) -> tuple[int, Any, Mapping[str, str]]:
        if self.has("pace"):
            self._tokens = min(40.0, self._tokens + (self.now - self._at) * 20)
            self._at = self.now
            if self._tokens < 1:
                raise Refused(429, "Too many requests", {"Retry-After": "1"})
            self._tokens -= 1
        self._check_key(request)
        parts = request.path.split("/")
        if request.path == "/v2/users/balances":
            return 200, [self._balance()], {}
        if request.path == "/v1/users/me":
            me = {"id": f"user-{self.canary}", "email": f"{self.canary}@example.org", "permissions": ["gpu"]}
            return 200, {k: v for k, v in me.items() if not (k == "email" and self.has("me"))}, {}
        known = {"plans/", "plans/vms", "plans/baremetal", "default-images/"}
        rest = request.path.removeprefix("/gpu/")
        if rest in known and request.method == "GET":
            return 200, self._catalogue(rest), {}
        if parts[:3] == ["", "gpu", "instances"] and len(parts) > 3:
            kind = parts[3] if parts[3] in ("vms", "baremetal") else "container"
            inner = parts[4:] if kind != "container" else parts[3:]
            if kind == "container" and inner == [""]:
                inner = []
            return self._instances(request, kind, inner)
        other = rest.removesuffix("/") if rest.endswith("/") else f"{rest}/"
        if other in known | {"instances/"}:
            query = f"?{'&'.join(f'{k}={v}' for k, v in request.query.items())}" if request.query else ""
            status = 308 if self.has("redirect") else 307
            return status, None, {"Location": f"/gpu/{other}{query}"}
        raise Refused(404, "Route not found" if self.has("not-found") else "Not Found")

    def _check_key(self, request: Request) -> None:
        key = request.headers.get("X-API-KEY")
        bearer = request.headers.get("Authorization", "")
        if key is not None and not re.fullmatch(r"[!-~]+", key):
            status = 403 if self.has("malformed-key") else 400
            raise Refused(
                status, {"error": "malformed", "code": "bad"} if status == 403 else "malformed header"
            )
        if key is None and bearer.startswith("Bearer "):
            key = bearer[7:]
        if key != KEY:
            status = 401 if self.has("wrong-key") else 403
            raise Refused(status, {"error": "not allowed", "code": "forbidden"})

    # Documents

    def _balance(self) -> dict[str, Any]:
        now = self.now
        rent = PRICE * len(self.live)
        money = {
            "balance": 500.25 - sum(self._bill(row, now)[0] + self._bill(row, now)[1] for row in self.rows),
            "usage": 10.5,
            "estimatedUsage": rent,
            "overage": 0.0,
            "totalDepositedAmount": 1000.0,
        }
        shown = money if self.has("balances") else {name: f"{value:.4f}" for name, value in money.items()}
        return {**shown, "usageDaysLeft": 9, "userId": f"user-{self.canary}", "featureKey": "gpu"}

    def _catalogue(self, rest: str) -> Any:
        pricing = {"hour": PRICE, "upfront_hours": 3, "currency": "USDC"}
        if rest == "default-images/":
            return []
        if rest == "plans/":
            plan = {"id": PLAN, "name": "a10", "supply": _SUPPLY, "gpu_model": _GPU, "pricing": pricing}
            return [{"plan": plan, "attributes": {"location": ["US", "FI"]}}]
        if rest == "plans/baremetal":
            return {"data": []}
        lowest: Any = "0.752" if self.has("minimum-price") else PRICE
        option = {
            "id": OPTION,
            "location": "us-central-3",
            "provider": "sesterce",
            **{name: _SUPPLY[name] for name in ("vcpu", "memory", "storage")},
            "deployment_type": "VM",
            "pricing": pricing,
            "nvlink": False,
            "os_options": ["Ubuntu Server 22.04"],
        }
        number = {
            "gpu_count": 1,
            "minimum_price": lowest,
            "options_available_total": 1,
            "providers_available_total": 1,
            "data_center_available_total": 1,
            "locations": ["us-central-3"],
            "providers": ["sesterce"],
            "options": [option],
        }
        return {"data": [{"gpu_model": _GPU, "minimum_price": lowest, "availability_by_number": [number]}]}

    def _summary(self, row: Row, at: float) -> dict[str, Any]:
        status = "instance_status" if row.kind == "container" else "status"
        active = row.status(at) == "ACTIVE"
        domain = self._domain(row, at) if row.kind == "container" else "198.51.100.7" if active else None
        shown = {
            "id": row.id,
            "name": row.name,
            status: row.status(at),
            "resources": {"supply": _SUPPLY, "gpu_model": _GPU},
            "domain": domain,
            "location": "US" if row.kind == "container" else "us-central-3",
            "created_at": _iso(row.born),
            "updated_at": _iso(max(each for each in self._changes(row) if each <= at)),
        }
        return shown | ({"credits": 7} if self.has("fields") and row.kind == "container" else {})

    def _changes(self, row: Row) -> list[float]:
        return [row.born, row.active, row.active + 4, row.active + 6, row.active + 21, row.ended,
                *(time for config in row.configs for time in (config.sent, config.done))]  # fmt: skip

    def _domain(self, row: Row, at: float) -> str | None:
        shown = row.status(at) == "ACTIVE" and at >= row.active + 21
        return f"{self.canary or 'host'}.provider.example" if shown else None

    def _bill(self, row: Row, at: float) -> tuple[float, float]:
        """Spent and reserved USDC."""
        if row.born < 0 and row.ended == _FAR and not row.fails:
            return PRICE, 2 * PRICE
        if row.status(at) == "FAILED":
            return 0.0, 0.0
        return PRICE, 2 * PRICE if row.status(at) in ("INITIALIZED", "ACTIVE") else 0.0

    def _detail(self, row: Row, at: float) -> dict[str, Any]:
        status = row.status(at)
        detail = self._summary(row, at)
        detail.pop("credits", None)
        if not self.has("detail-domain"):
            del detail["domain"]
        spent, reserved = self._bill(row, at)
        live = status in ("INITIALIZED", "ACTIVE")
        period = None
        if status == "ACTIVE" or (live and self.has("next-period")):
            moment = START + timedelta(seconds=at)
            hour = moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            period = hour.strftime("%Y-%m-%dT%H:%M:%S" + (".000000Z" if self.has("next-period") else "Z"))

        def shown(amount: float) -> float:
            return amount if self.has("cents") else round(amount + 1e-9, 2)

        detail["billing"] = {
            "hourly_usage": shown(PRICE) if live or self.has("usage-after-end") else 0,
            "total_spendings": shown(spent),
            "reserved_amount": shown(reserved),
            "next_billing_period": period,
        }
        network: dict[str, Any] | None = None
        if row.kind != "container":
            if status == "ACTIVE":
                network = {"domain": "198.51.100.7", "forwarded_ports": [], "uri": None}
            login = f"ssh user@{self.canary or 'host'}.example" if status == "ACTIVE" else None
            if status == "FAILED" and self.has("failed-detail"):
                detail["status"] = "ENDED"
            more = {
                "availability": "vm",
                "os_image": row.os_image,
                "ssh_connection": login,
                "ssh_key": "ssh-rsa A",
            }
            return {**detail, **more, "network": network}
        if status == "ACTIVE" and at >= row.active + 6:
            domain = self._domain(row, at)
            forwarded = [{**p, "external_port": "31234"} for p in row.expose if p["protocol"] != "http"]
            web = domain is not None and any(p["protocol"] == "http" for p in row.expose)
            network = {
                "domain": domain,
                "forwarded_ports": forwarded,
                "uri": f"http://{domain}" if web else None,
            }
        config = row.config(at)
        updating = any(each.sent <= at < each.done for each in row.configs)
        is_down = updating and not self.has("downtime")
        started = row.run(at)[0] and not is_down
        info = {
            "image": config.image,
            "expose": row.expose,
            "environment": row.environment,
            "startup_command": config.command,
        }
        status_of = "STARTED" if started else "NOT_STARTED"
        return {**detail, "container_status": status_of, "container_info": info, "network": network}

    # Instances

    def _instances(self, request: Request, kind: str, inner: list[str]) -> tuple[int, Any, Mapping[str, str]]:
        at, method = self.now, request.method
        if not inner:
            if method == "GET":
                lag = 20.0 if self.has("list-lag") else 0.0
                rows = [self._summary(r, at) for r in self.rows if r.kind == kind and r.born + lag <= at]
                return 200, rows if self.has("newest-first") else rows[::-1], {}
            if method == "POST":
                return (
                    200 if self.has("deploy-status") else 201,
                    {"instance_id": self._deploy(request, kind)},
                    {},
                )
            text = "Wrong method" if self.has("not-found") else "Method Not Allowed"
            raise Refused(405, text)
        if method == "PUT" and not self.has("check-order"):
            self._check_change(request, kind)
        if inner[1:] == ["logs"]:
            last = self._last(request)
            return 200, self._logs(self._find(kind, inner[0]), at, last), {}
        row = self._find(kind, inner[0])
        if inner[1:] == ["events"]:
            return 200, self._events(row, at), {}
        if method == "GET":
            return 200, self._detail(row, at), {}
        if method == "DELETE":
            if row.status(at) != "ACTIVE":
                ours = "Only ACTIVE instances can be terminated"
                raise Refused(400, f"Instance {row.name} is not active" if self.has("400-texts") else ours)
            row.ended = at
            return 204, None, {}
        self._check_change(request, kind)
        if row.status(at) != "ACTIVE":
            raise Refused(400, "Only ACTIVE instances can be updated")
        if kind == "container":
            self._update(row, json.loads(request.body), at)
        return 204, None, {}

    def _find(self, kind: str, id: str) -> Row:
        found = next((row for row in self.rows if row.id == id and row.kind == kind), None)
        if found is None:
            raise Refused(404, "No such instance" if self.has("unknown-id") else "Instance not found")
        return found

    def _last(self, request: Request) -> int | None:
        text = request.query.get("last")
        if text is None:
            return None
        if not text.isdecimal() or int(text) < 1:
            if self.has("last-form"):
                return None
            kind, msg = (
                ("int_parsing", "Input should be a valid integer") if text == "ten" else ("ge", "too small")
            )
            raise Refused(422, [self._problem(("query", "last"), kind, msg, text)])
        return int(text)

    def _deploy(self, request: Request, kind: str) -> str:
        content = request.headers.get("Content-Type", "application/json")
        if self.has("content-type") and "json" not in content:
            raise Refused(415, "Unsupported Media Type")
        body = json.loads(request.body)
        problems = self._problems(body, kind)
        if problems:
            raise Refused(422, problems)
        if body.get("plan_id") != (PLAN if kind == "container" else OPTION):
            raise Refused(404 if self.has("unknown-plan") else 400, "Plan is no longer available")
        at = self.now
        if kind != "container":
            if body["os_image"] != "Ubuntu Server 22.04":
                text = f"Provided OS image {body['os_image']} is not supported for the selected offer. "
                raise Refused(400, f"{text}Available OS images: Ubuntu Server 22.04")
            row = Row(str(uuid.uuid4()), kind, body["name"], at, at + 119)
        else:
            settings = body["container_settings"]
            given = settings.get("environment") or []
            key = body.get("ssh_key")
            twice = key is not None and any(each["name"] == "SSH_PUBKEY" for each in given)
            row = Row(str(uuid.uuid4()), kind, body["name"], at, at + 70, fails=twice)
            row.expose = [{"protocol": "tcp", **each} for each in settings["expose"]]
            kept = [each for each in given if each["name"] != "SSH_PUBKEY" or key is None]
            row.environment = kept + ([] if key is None else [{"name": "SSH_PUBKEY", "value": key}])
            pod = _pod(len(self.rows), 0)
            row.configs = [Config(settings["image"], settings.get("startup_command"), at, at, pod)]
        self.rows.append(row)
        return row.id

    def _update(self, row: Row, body: dict[str, Any], at: float) -> None:
        if any(each.sent <= at < each.done for each in row.configs):
            raise Refused(400, "Instance update is already in progress")
        settings = body["container_settings"]
        done = at + (90.0 if self.has("update-time") else 20.0)
        pod = _pod(self.rows.index(row), len(row.configs))
        row.configs.append(Config(settings["image"], settings.get("startup_command"), at, done, pod))

    # Logs and events

    def _logs(self, row: Row, at: float, last: int | None) -> list[str]:
        status = row.status(at)
        if status in ("ENDED", "FAILED"):
            if not self.has("logs-gone") or status == "FAILED":
                return []
            at = row.ended - 1.0
        if status == "INITIALIZED" and at < (row.born + row.active) / 2:
            return []
        updating = next((each for each in row.configs if each.sent <= at < each.done), None)
        is_down = updating is not None and not self.has("downtime")
        begun = status != "INITIALIZED" and at >= row.active + 4
        if is_down or not begun:
            if not self.has("logs-creating"):
                raise Refused(400, 'container "service-1" in pod "x" is waiting to start: ContainerCreating')
            return self._old_pods(row, at, last)
        if "no-such-image" in row.config(at).image:
            raise Refused(400, 'container "service-1" in pod "x" is waiting to start: ErrImagePull')
        return self._old_pods(row, at, last) + self._pod_lines(row.config(at), last)

    def _old_pods(self, row: Row, at: float, last: int | None) -> list[str]:
        if not self.has("old-pod"):
            return []
        current = row.config(at)
        old = [
            before
            for before, after in zip(row.configs, row.configs[1:], strict=False)
            if before is not current and after.done <= at < after.done + 120
        ]
        return [line for config in old for line in self._pod_lines(config, last)]

    def _pod_lines(self, config: Config, last: int | None) -> list[str]:
        lines, _ = config.program()
        limit = 1000 if self.has("last-max") else 10**9
        lines = lines[-min(last or limit, limit) :]
        if not self.has("long-line"):
            too_long = next((i for i, line in enumerate(lines) if len(line) > 65_536), len(lines))
            lines = lines[:too_long]
        mark = ": " if self.has("log-form") else " "
        return [f"[{config.pod}]{mark}{line}" for line in lines]

    def _events(self, row: Row, at: float) -> list[str]:
        status = row.status(at)
        if status == "INITIALIZED" and at < (row.born + row.active) / 2:
            return []
        if status == "FAILED" and self.has("events-stay"):
            return []
        if status == "ENDED" and at - row.ended > 3600:
            return []

        def kind(name: str) -> str:
            return "" if self.has("event-form") else f"[{name}] "

        config = row.config(at)
        found = [
            ("service-1", f"[Normal] [ScalingReplicaSet] {kind('Deployment')}Scaled up to 1"),
            (
                config.pod.rpartition("-")[0],
                f"[Normal] [SuccessfulCreate] {kind('ReplicaSet')}Created pod: {config.pod}",
            ),
            (config.pod, f"[Normal] [Scheduled] {kind('Pod')}Successfully assigned to node2"),
        ]
        if row.fails and status == "FAILED":
            found.append((config.pod, f"[Warning] [Failed] {kind('Pod')}Error: variable defined twice"))
        if row.run(at)[2]:
            found.append((config.pod, f"[Normal] [Started] {kind('Pod')}Started container service-1"))
        if row.run(at)[2] > 1:
            found.append(
                (config.pod, f"[Warning] [BackOff] {kind('Pod')}Back-off restarting failed container")
            )
        return [f"[{object}]: {text}" for object, text in sorted(found, key=lambda each: each[0])]

    # Rules

    def _check_change(self, request: Request, kind: str) -> None:
        body = json.loads(request.body)
        problems = self._name_problems(body, kind)
        if kind == "container" and body.get("ssh_key") is not None:
            for index, each in enumerate(body["container_settings"].get("environment") or ()):
                if each["name"] == "SSH_PUBKEY":
                    loc = ("body", "container_settings", "environment", index, "name")
                    problems.append(self._problem(loc, "value_error", "Value error, reserved", "SSH_PUBKEY"))
        if problems:
            raise Refused(422, problems)

    def _problem(
        self, loc: tuple[str | int, ...], kind: str, msg: str, given: Any, **more: Any
    ) -> dict[str, Any]:
        problem = {"type": kind, "loc": list(loc), "msg": msg, "input": given, **more}
        return problem | ({"url": "https://errors.pydantic.dev/2"} if self.has("422-details") else {})

    def _name_problems(self, body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
        name = body.get("name")
        if name is None:
            return [self._problem(("body", "name"), "missing", "Field required", body)]
        longest = 40 if self.has("limits") and kind == "container" else 25
        if len(name) > longest:
            msg = "String should have at most 25 characters"
            return [self._problem(("body", "name"), "string_too_long", msg, name)]
        pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
        if not re.fullmatch(pattern, name) and not (kind != "container" and self.has("machine-names")):
            msg = f"String should match pattern '{pattern}'"
            return [self._problem(("body", "name"), "string_pattern_mismatch", msg, name)]
        return []

    def _problems(self, body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
        found = self._name_problems(body, kind)

        def wrong(loc: tuple[str | int, ...], type_: str, msg: str, given: Any = None, **more: Any) -> None:
            found.append(self._problem(("body", *loc), type_, msg, given, **more))

        required = (
            ("plan_id", "container_settings") if kind == "container" else ("plan_id", "ssh_key", "os_image")
        )
        for field in required:
            if field not in body:
                wrong((field,), "missing", "Field required")
        if kind != "container":
            if body.get("ssh_key") == "" and not self.has("ssh-keys"):
                wrong(("ssh_key",), "string_too_short", "String should have at least 1 character")
            return found
        known = {"plan_id", "name", "container_settings", "constraints", "ssh_key"}
        if self.has("unknown-fields"):
            for name in body.keys() - known:
                wrong((name,), "extra_forbidden", "Extra inputs are not permitted")
        location = (body.get("constraints") or {}).get("location")
        if location is not None and not location.isupper() and not self.has("countries"):
            wrong(
                ("constraints", "location"),
                "string_pattern_mismatch",
                "String should match pattern '^[A-Z]{2}$'",
            )
        settings = body.get("container_settings")
        if settings is not None:
            self._check_settings(
                settings, lambda loc, *rest, **more: wrong(("container_settings", *loc), *rest, **more)
            )
        return found

    def _check_settings(self, settings: dict[str, Any], wrong: Any) -> None:
        image = settings.get("image")
        if image is None:
            wrong(("image",), "missing", "Field required")
        elif len(image) > 255:
            wrong(("image",), "string_too_long", "String should have at most 255 characters")
        elif image != image.lower():
            wrong(("image",), "value_error", "Value error, Image must be lower case")
        ports = settings.get("expose")
        if ports is None:
            wrong(("expose",), "missing", "Field required")
        elif not 1 <= len(ports) <= 10:
            few = "at least 1 item" if not ports else "at most 10 items"
            msg = f"List should have {few} after validation, not {len(ports)}"
            wrong(("expose",), "too_long" if ports else "too_short", msg)
        for index, port in enumerate(ports or ()):
            protocol = port.get("protocol", "tcp")
            if protocol not in ("tcp", "udp", "http"):
                wrong(
                    ("expose", index, "protocol"), "literal_error", "Input should be 'tcp', 'udp' or 'http'"
                )
            if not 1 <= int(port["port"]) <= 65535:
                msg = "Value error, Port must be between 1 and 65535"
                wrong(("expose", index, "port"), "value_error", msg, port["port"], ctx={"error": {}})
            if protocol == "http" and port["port"] != "80":
                wrong(
                    ("expose", index), "value_error", 'Value error, Only port 80 supports the "http" protocol'
                )
        variables = settings.get("environment") or []
        if len(variables) > 64:
            wrong(
                ("environment",),
                "too_long",
                f"List should have at most 64 items after validation, not {len(variables)}",
            )
        for index, each in enumerate(variables):
            if not re.fullmatch("[A-Z][A-Z0-9_]*", each["name"]):
                msg = "String should match pattern '^[A-Z][A-Z0-9_]*$'"
                wrong(("environment", index, "name"), "string_pattern_mismatch", msg)
        if len(settings.get("startup_command") or "") > 2048:
            wrong(("startup_command",), "string_too_long", "String should have at most 2048 characters")
        login = settings.get("credentials")
        if login is not None:
            if login.get("host") not in ("docker.io", "ghcr.io") and not self.has("restrictions"):
                msg = "Value error, Only docker.io and ghcr.io are supported"
                wrong(("credentials", "host"), "value_error", msg)
            if "username" not in login and not self.has("credentials"):
                wrong(("credentials", "username"), "missing", "Field required")


def _pod(container: int, config: int) -> str:
    return f"service-1-b4fcd99f{config}-f5xr{container % 10}"


def _iso(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
