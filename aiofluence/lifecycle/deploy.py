"""Deploying exactly once over an API without idempotency keys: the name is the key.

A POST whose outcome is unclear is followed by looking, and by another POST only when the looking has
ruled the first one out. Runs in the session's tasks, so that a cancelled caller never loses an id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import attrs

from ..convert import check
from ..errors import (
    ConfigError,
    DecodeError,
    FluenceError,
    NoReplyError,
    RateLimitedError,
    ReplyError,
    ServerError,
    UncertainDeployError,
)
from ..models.instances import InstanceRef, Summary
from ..models.specs import Spec
from ..protocol import Lane
from ..resources.instances import Instances
from ..retry import Retry, is_refusal
from ..transport import ServerClock
from .custody import Custodian
from .tasks import TaskHome

log: Final = logging.getLogger("aiofluence")

_LOOK_EVERY: Final = 3.0
_WATCH_EVERY: Final = 15.0
_DATE_SLACK: Final = timedelta(seconds=2)
"""`Date` has whole seconds, and takes a moment to travel."""


@attrs.frozen
class DeployPolicy:
    """How a deploy whose outcome is unclear is cleared up.

    Attributes:
        settle: seconds for which a list that shows nothing proves nothing: the service must commit and
            list a deploy within this time.
        watch: seconds for which the session goes on looking, after an unclear attempt, for a twin that was
            committed late; of two, the older stays.
        max_posts: how often one deploy is sent at most.
        trust_503: take a 503 as "refused at the door", as nginx means it; one look, and it is sent again.
    """

    settle: float = 90.0
    watch: float = 300.0
    max_posts: int = 3
    trust_503: bool = True

    def __attrs_post_init__(self) -> None:
        if not (self.settle >= 0 and self.watch >= 0 and self.max_posts >= 1):
            raise ConfigError("DeployPolicy needs settle >= 0, watch >= 0 and max_posts >= 1")


class Deployer:
    """Deploys for one session; every instance has one owner, whether a caller or the custodian."""

    def __init__(
        self, home: TaskHome, custodian: Custodian, clock: ServerClock, policy: DeployPolicy, retry: Retry
    ) -> None:
        self._home = home
        self._custodian = custodian
        self._clock = clock
        self._policy = policy
        self._retry = retry
        self._owned: set[str] = set()

    async def __call__(
        self, resource: Instances[Any, Any, Any], spec: Spec, *, orphan: str = "terminate"
    ) -> InstanceRef:
        """Deploy `spec` once. If the caller is cancelled meanwhile, `orphan` says what becomes of it:
        `"terminate"` or `"keep"`.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            UncertainDeployError: whether it was deployed could not be found out.
            FluenceError: a refusal, or it never left.
        """
        check([spec])
        deploying = self._home.spawn(self._deploy(resource, spec))
        self._custodian.expect(deploying)
        try:
            return await asyncio.shield(deploying)
        except asyncio.CancelledError:
            if orphan == "terminate":
                deploying.add_done_callback(self._abandoned)
            raise

    def _abandoned(self, deploying: asyncio.Future[InstanceRef]) -> None:
        if deploying.exception() is None:
            self._custodian.take(deploying.result())

    async def _deploy(self, resource: Instances[Any, Any, Any], spec: Spec) -> InstanceRef:
        """POST, and while the outcome is unclear: look, and POST again only when there is nothing to find."""
        search = _Search(resource, spec.name, asyncio.get_running_loop().time())
        waits = self._retry.waits()
        doubtful = False
        posts = refusals = 0
        ref: InstanceRef | None = None
        try:
            while ref is None:
                try:
                    ref = await resource.post(spec)
                    break
                except FluenceError as caught:
                    error = caught
                if _refused_at_the_door(error, self._policy):
                    refusals += 1
                    pause = _pause(error, next(waits), self._retry)
                    if pause is None or refusals >= self._retry.max_refusals:
                        raise error
                    await asyncio.sleep(pause)
                    if not isinstance(error, RateLimitedError):  # a 503 may lie: one look before the next
                        doubtful = True
                        ref = await self._find(search, settle=0.0)
                elif _is_unclear(error):
                    doubtful = True
                    posts += 1
                    ref = await self._find(search, settle=self._policy.settle)
                    if ref is None and posts >= self._policy.max_posts:
                        raise self._uncertain(search)
                else:
                    raise error
            self._owned.add(ref.id)
            return ref
        finally:
            if doubtful and self._policy.watch:
                self._custodian.let_watch(self._home.spawn(self._end_twins(search, ref)))

    async def _find(self, search: _Search, *, settle: float) -> InstanceRef | None:
        """Our instance, or None once a list asked for `settle` seconds from now or later shows none.

        Raises:
            UncertainDeployError: no list came through for as long as the policy would watch.
        """
        loop = asyncio.get_running_loop()
        settled = loop.time() + settle
        while True:
            asked = loop.time()
            mine = await self._siblings(search)
            if mine:
                self._owned.add(mine[0].id)
                return mine[0].ref
            if mine is not None and asked >= settled:
                return None
            if asked >= settled + self._policy.watch:
                raise self._uncertain(search)
            await asyncio.sleep(min(_LOOK_EVERY, max(0.1, settled - loop.time())))

    async def _siblings(self, search: _Search, *, also: InstanceRef | None = None) -> list[Summary] | None:
        """Live instances of that name since the deploy began that nobody owns, oldest first; None: no list.

        `also` is one we own and want to see among them.
        """
        try:
            rows: Sequence[Summary] = await search.resource.look_at_all(lane=Lane.DEPLOY)
        except FluenceError:
            return None
        since = self._clock.at(search.began)
        if since is None:
            return None  # without a Date no row can be told from an older one of the same name
        mine = [
            row
            for row in rows
            if row.name == search.name
            and not row.status.final
            and row.created_at >= since - _DATE_SLACK
            and (row.id not in self._owned or (also is not None and row.id == also.id))
        ]
        return sorted(mine, key=lambda row: (row.created_at, row.id))

    async def _end_twins(self, search: _Search, ref: InstanceRef | None) -> None:
        """For a while after an unclear attempt: of live twins the oldest stays; with no owner, none."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._policy.watch
        while True:
            asked = loop.time()
            twins = await self._siblings(search, also=ref)
            for twin in (twins or [])[0 if ref is None else 1 :]:
                log.warning("%s was deployed twice; the service was slow to show it. Ending it.", twin.ref)
                self._custodian.take(twin.ref)
            if asked >= until:
                return
            await asyncio.sleep(min(_WATCH_EVERY, max(0.1, until - loop.time())))

    def _uncertain(self, search: _Search) -> UncertainDeployError:
        async def resolve() -> InstanceRef | None:
            rows = await search.resource.list()
            live = [row for row in rows if row.name == search.name and not row.status.final]
            return min(live, key=lambda row: (row.created_at, row.id)).ref if live else None

        return UncertainDeployError(search.name, resolve=resolve)


@attrs.frozen
class _Search:
    """What tells our instance from others: kind, name, and when (loop time) its deploy began."""

    resource: Instances[Any, Any, Any]
    name: str
    began: float


def _refused_at_the_door(error: FluenceError, policy: DeployPolicy) -> bool:
    return isinstance(error, RateLimitedError) or (policy.trust_503 and is_refusal(error))


def _is_unclear(error: FluenceError) -> bool:
    """Whether the POST may have worked. Everything counts that is not a plain refusal."""
    if isinstance(error, ReplyError):
        return isinstance(error, ServerError) or error.status == 408
    return isinstance(error, NoReplyError | DecodeError)


def _pause(error: FluenceError, drawn: float, retry: Retry) -> float | None:
    asked = error.retry_after if isinstance(error, RateLimitedError | ServerError) else None
    return None if asked is not None and asked > retry.max_retry_after else max(drawn, asked or 0.0)
