"""The service's HTTP endpoints: requests in, replies out, by the contract and without faults.

This module checks the rate, the key, the path and the body, and leaves the rest to `world`. It reads no
clock: the world has the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode

import attrs

from aiofluence.http.messages import Reply, Request

from . import validation as rules
from .account import KeyState, balance_json, user_json
from .answer_options import AnswerOptions
from .answers import detail_json, summary_bytes
from .events import event_lines
from .forms import RequestRefusedError
from .instances import ContainerInstance, Instance
from .plans import Json
from .routes import Endpoint, Route, match, other_slash
from .world import World


@attrs.frozen
class ServerRateLimit:
    """The service's rate limit, a token bucket. The service refuses requests beyond it.

    Attributes:
        per_second: sustained requests per second.
        burst: requests that are accepted at once after a pause.
        retry_after: the `Retry-After` header: seconds, any text unchanged, or None for no header.
        status: 429, or 503 as some gateways answer.
    """

    per_second: float = attrs.field(validator=attrs.validators.gt(0.0))
    burst: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    retry_after: float | str | None = 1
    status: int = 429


class _Bucket:
    def __init__(self, limit: ServerRateLimit, now: float) -> None:
        self.limit = limit
        self._tokens = float(limit.burst)
        self._at = now

    def take(self, now: float) -> bool:
        grown = self._tokens + (now - self._at) * self.limit.per_second
        self._tokens = min(float(self.limit.burst), grown)
        self._at = now
        # Tolerate rounding: a client at exactly the permitted rate must not be refused for 1e-16.
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True


class Service:
    """The HTTP service of one world."""

    def __init__(self, world: World, api_key: str) -> None:
        self.world = world
        self.api_key = api_key
        self.key_state: KeyState = "valid"
        self._bucket: _Bucket | None = None
        self._endpoints: dict[Endpoint, Callable[[Route, str, Request], Reply]] = {
            "plans": self._plans,
            "images": lambda route, instance_id, request: self._json(self.world.catalog.images),
            "deploy": self._deploy,
            "list": self._list,
            "detail": self._detail,
            "change": self._change,
            "terminate": self._terminate,
            "logs": self._logs,
            "events": self._events,
            "balances": lambda route, instance_id, request: self._json([balance_json(self.world)]),
            "me": lambda route, instance_id, request: self._json(user_json(self.key_state)),
        }

    @property
    def rate_limit(self) -> ServerRateLimit | None:
        return self._bucket.limit if self._bucket else None

    @rate_limit.setter
    def rate_limit(self, limit: ServerRateLimit | None) -> None:
        self._bucket = _Bucket(limit, self.world.timeline.now) if limit else None

    @property
    def date(self) -> str:
        """The `Date` header at the present moment."""
        now = self.world.timeline.now + self._answers.date_ahead
        return format_datetime(self.world.calendar.at(now), usegmt=True)

    @property
    def _answers(self) -> AnswerOptions:
        return self.world.profile.answers

    def answer(self, request: Request) -> Reply:
        """Answer one request at the world's present moment."""
        if refusal := self._too_fast() or self._unauthorised(request):
            return refusal
        found = match(request.path)
        if found is None:
            return self._no_such_path(request)
        route = found.by_method.get(request.method)
        if route is None:
            allow = ", ".join(sorted(found.by_method))
            return self._refused(405, "Method Not Allowed", {"Allow": allow})
        try:
            reply = self._endpoints[route.endpoint](route, found.instance_id, request)
        except RequestRefusedError as refused:
            return self._refused(refused.status, refused.body["detail"])
        if self._answers.edits:
            return Reply(reply.status, reply.headers, self._answers.edited(route.operation, reply.body))
        return reply

    def _refused(self, status: int, detail: Any, headers: dict[str, str] | None = None) -> Reply:
        status, detail = self._answers.refusal(status, detail)
        return self._json({"detail": detail}, status, headers)

    # Checks before the endpoints

    def _too_fast(self) -> Reply | None:
        if self._bucket is None or self._bucket.take(self.world.timeline.now):
            return None
        limit = self._bucket.limit
        headers = {} if limit.retry_after is None else {"Retry-After": str(limit.retry_after)}
        return self._json({"detail": "Too many requests"}, limit.status, headers)

    def _unauthorised(self, request: Request) -> Reply | None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        key = headers.get("x-api-key")
        if key is not None and not re.fullmatch(r"[!-~]+", key):
            return self._json({"detail": "Malformed X-API-KEY header"}, self._answers.malformed_key_status)
        if key is None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            key = token if scheme.lower() == "bearer" else None
        if key != self.api_key:
            return self._forbidden("Invalid or missing API key")
        if self.key_state == "expired":
            return self._forbidden("API key has expired")
        if self.key_state == "read-only" and request.path.startswith("/gpu/"):
            return self._forbidden("API key is read-only and has no access to GPU Cloud", 403)
        return None

    def _forbidden(self, text: str, status: int | None = None) -> Reply:
        status = status or self.world.profile.unauthorised_status
        if self._answers.key_refusal == "detail":
            return self._json({"detail": text}, status)
        code = "forbidden" if status == 403 else "unauthorized"
        return self._json({"error": text, "code": code}, status)

    def _no_such_path(self, request: Request) -> Reply:
        path = other_slash(request.path)
        if path is None or self._answers.redirect_status == 404:
            return self._refused(404, "Not Found")
        query = f"?{urlencode(request.query)}" if request.query else ""
        return self._empty(self._answers.redirect_status, {"Location": f"{path}{query}"})

    # The endpoints

    def _plans(self, route: Route, instance_id: str, request: Request) -> Reply:
        catalog, sold_out = self.world.catalog, self.world.sold_out
        if route.kind == "container":
            return self._json(catalog.container_plans(sold_out))
        return self._json(catalog.machine_plans(route.kind, sold_out))

    def _deploy(self, route: Route, instance_id: str, request: Request) -> Reply:
        options = self._answers
        if options.content_type == "required":
            given = {name.lower(): value for name, value in request.headers.items()}
            if "json" not in given.get("content-type", "json"):
                rules.refuse("Unsupported Media Type", 415)
        if route.kind == "container":
            forbids = options.extra_fields == "forbidden"
            order = rules.container_order(request.body, options.unchecked, forbids_others=forbids)
            instance = self.world.deploy_container(order)
        else:
            instance = self.world.deploy_machine(
                route.kind, rules.machine_order(request.body, options.unchecked)
            )
        return self._json({"instance_id": instance.id}, options.deploy_status)

    def _list(self, route: Route, instance_id: str, request: Request) -> Reply:
        calendar = self.world.calendar
        rows = b", ".join(summary_bytes(row, calendar) for row in self.world.rows(route.kind))
        return self._bytes(b"[" + rows + b"]")

    def _detail(self, route: Route, instance_id: str, request: Request) -> Reply:
        instance: Instance = self.world.get(route.kind, instance_id)
        now = self.world.timeline.now
        return self._json(detail_json(instance, self.world.calendar, now, self.world.profile))

    def _change(self, route: Route, instance_id: str, request: Request) -> Reply:
        if self._answers.checks_first == "id":
            self.world.get(route.kind, instance_id)
        if route.kind == "container":
            change = rules.container_change(request.body)
            self.world.update(self.world.container(instance_id), change)
        else:
            name = rules.new_name(request.body)
            self.world.rename(self.world.get(route.kind, instance_id), name)
        return self._empty(204)

    def _terminate(self, route: Route, instance_id: str, request: Request) -> Reply:
        self.world.terminate(self.world.get(route.kind, instance_id))
        return self._empty(204)

    def _logs(self, route: Route, instance_id: str, request: Request) -> Reply:
        last = self._last(request)
        container = self.world.container(instance_id)
        if self._has_no_logs(container):
            return self._json([])
        return self._json(container.log.answer(self.world.timeline.now, last, self.world.profile.cluster))

    def _has_no_logs(self, container: ContainerInstance) -> bool:
        """Check if the logs of an instance are gone.

        Raises:
            RequestRefusedError: 400: there are no logs, and the profile answers this with an error.
        """
        profile, pod = self.world.profile, container.log.pod
        if not container.live:
            if profile.logs_after_end == "error":
                rules.refuse(rules.NO_LOGS)
            return profile.logs_after_end == "empty"
        creating = not pod.begun and container.pod_since <= self.world.timeline.now
        if not creating and not pod.begun and self._answers.early_logs == "error":
            rules.refuse(rules.creating(pod.name.deployment, pod.name.pod))
        if creating and profile.logs_while_creating == "error":
            rules.refuse(rules.creating(pod.name.deployment, pod.name.pod))
        return False

    def _events(self, route: Route, instance_id: str, request: Request) -> Reply:
        last = self._last(request)
        container = self.world.container(instance_id)
        events = container.events if container.live or self._answers.late_events == "kept" else []
        return self._json(event_lines(events, self.world.timeline.now, last, self.world.profile.cluster))

    def _last(self, request: Request) -> int | None:
        return rules.last_lines(request.query, is_checked=self._answers.bad_last == "refused")

    # Replies

    def _json(
        self, value: Json | list[Any], status: int = 200, headers: dict[str, str] | None = None
    ) -> Reply:
        return self._bytes(json.dumps(value).encode(), status, headers)

    def _bytes(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
        return Reply(status, {"Date": self.date, "Content-Type": "application/json"} | (headers or {}), body)

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> Reply:
        return Reply(status, {"Date": self.date} | (headers or {}))
