"""Deploying exactly once over an API without idempotency keys: the name is the key.

A POST whose outcome is unclear is followed by looking, and by another POST only when the looking has
ruled the first one out. Runs in the session's tasks, so that a cancelled caller never loses an id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

import attrs

from ..convert import check
from ..errors import FluenceError, NotSentError, RateLimitedError, UncertainDeployError
from ..models.instances import InstanceRef, Summary
from ..models.specs import Spec
from ..models.values import Kind
from ..protocol import Lane
from ..resources.instances import Instances
from ..retry import Retry
from ..transport import ServerClock
from .custody import Custodian
from .journal import DATE_SLACK, Intent, Journal
from .policy import DeployPolicy, is_unclear, refused_at_the_door
from .tasks import TaskHome

LOOK_EVERY: Final = 3.0
_WATCH_EVERY: Final = 15.0
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)


class Deployer:
    """Deploys for one session; every instance has one owner, whether a caller or the custodian."""

    def __init__(
        self,
        home: TaskHome,
        custodian: Custodian,
        journal: Journal,
        clock: ServerClock,
        policy: DeployPolicy,
        retry: Retry,
    ) -> None:
        self.policy: Final = policy
        self._home = home
        self._custodian = custodian
        self._journal = journal
        self._clock = clock
        self._retry = retry
        self._owned: set[str] = set()
        self._unresolved: dict[tuple[Kind, str], list[Intent]] = {}
        self._turns: WeakValueDictionary[tuple[Kind, str], asyncio.Lock] = WeakValueDictionary()

    async def __call__(
        self,
        resource: Instances[Any, Any, Any],
        spec: Spec,
        *,
        orphan: str = "terminate",
        adopt: bool = False,
        hand_over: bool = True,
    ) -> InstanceRef:
        """Deploy `spec` once; with `adopt`, take a live instance of that name instead, if there is one.

        If the caller is cancelled meanwhile, what was not sent is not sent, and `orphan` says what becomes
        of the instance otherwise: `"terminate"` or `"keep"`. Without `hand_over` it stays in custody, until
        `Custodian.hand_over`.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            UncertainDeployError: whether it was deployed could not be found out.
            FluenceError: a refusal, or it never left.
        """
        check([spec])
        given_up = asyncio.Event()
        deploying = self._home.spawn(self._in_turn(resource, spec, adopt, given_up))
        if orphan == "terminate" and not hand_over:
            deploying.add_done_callback(self._custodian.care_for)
        self._custodian.expect(deploying, spec.name)
        try:
            ref = await asyncio.shield(deploying)
        except asyncio.CancelledError:
            given_up.set()
            settle = partial(self._abandoned, spec.name, orphan)
            if deploying.done():  # at once: the session may be closed in the next step
                settle(deploying)
            else:
                deploying.add_done_callback(settle)
            raise
        if hand_over:
            self._custodian.hand_over(ref)
        return ref

    def owns(self, id: str) -> bool:
        """Whether this session has deployed or taken it."""
        return id in self._owned

    def _abandoned(self, name: str, orphan: str, deploying: asyncio.Future[InstanceRef]) -> None:
        error = deploying.exception()
        if isinstance(error, UncertainDeployError):
            self._custodian.doubt(name)
        elif error is None and orphan == "terminate":
            self._custodian.take(deploying.result())
        elif error is None:
            self._custodian.hand_over(deploying.result())

    async def _in_turn(
        self, resource: Instances[Any, Any, Any], spec: Spec, adopt: bool, given_up: asyncio.Event
    ) -> InstanceRef:
        """Deploys of one name go one after another: of two under way none could tell which row is whose."""
        async with self._turn(resource.kind, spec.name):
            search = self._search(resource, spec.name, adopt)
            search.given_up = given_up
            try:
                ref = await self._adopt(search) if adopt else None
                if ref is None and search.unclear:
                    ref = await self._find(search, settle=self.policy.settle)
                if ref is None:
                    ref = await self._deploy(search, spec)
                search.ref = ref
                self._owned.add(ref.id)
                return ref
            finally:
                if adopt and search.ref is None:
                    # What shows up may be somebody else's: no watch, but the name's next deploy looks on.
                    self._unresolved[resource.kind, spec.name] = search.unclear
                elif (search.doubtful or search.unclear) and self.policy.watch:
                    with contextlib.suppress(NotSentError):  # closing: then the deploy itself is in doubt
                        self._custodian.let_watch(self._home.spawn(self._end_twins(search)), search.name)

    def _turn(self, kind: Kind, name: str) -> asyncio.Lock:
        return self._turns.setdefault((kind, name), asyncio.Lock())

    def _search(self, resource: Instances[Any, Any, Any], name: str, adopt: bool) -> Search:
        """Begin a search. What an earlier run of this journal left open is an unclear attempt of ours."""
        search = Search(resource, name, asyncio.get_running_loop().time(), adopt)
        search.unclear = self._unresolved.pop((resource.kind, name), [])
        search.unclear += map(self._journal.inherit, self._journal.inherited(resource.kind, name))
        if search.unclear:
            search.since = min(intent.since or LONG_AGO for intent in search.unclear)
            search.doubtful = True
        return search

    async def _deploy(self, search: Search, spec: Spec) -> InstanceRef:
        """POST, and while the outcome is unclear: look, and POST again only when there is nothing to find."""
        waits = self._retry.waits()
        loop = asyncio.get_running_loop()
        posts = refusals = 0
        while True:
            intent = self._journal.intend(search.resource.kind, search.name, self._clock.at(loop.time()))
            search.unclear.append(intent)  # until we know better, and if we never do
            try:
                ref = await search.resource.post_unless(search.given_up.is_set, spec)
            except FluenceError as caught:
                error = caught
            else:
                search.unclear.remove(intent)
                self._journal.identify(intent, ref)
                return await self._agree(search, ref) if search.adopt else ref
            if refused_at_the_door(error, self.policy):
                refusals += 1
                lies = not isinstance(error, RateLimitedError)  # a 503 may: one look before the next
                search.doubtful |= lies
                if not lies:
                    self._rule_out(search, intent)
                pause = self._retry.pause_after(error, next(waits))
                if pause is None or refusals >= self._retry.max_refusals:
                    raise error
                await asyncio.sleep(pause)
                found = await self._find(search, settle=0.0) if lies else None
            elif is_unclear(error):
                search.doubtful = True
                posts += 1
                found = await self._find(search, settle=self.policy.settle)
                if found is None and posts >= self.policy.max_posts:
                    raise self._uncertain(search)
            else:
                self._rule_out(search, intent)
                raise error
            if found is not None:
                return found

    async def _adopt(self, search: Search) -> InstanceRef | None:
        """The live instance of that name, if there is one.

        Raises:
            FluenceError: the list did not come.
        """
        siblings = self._siblings(search, await search.resource.look_for(search.name, lane=Lane.DEPLOY))
        return self._claim(search, siblings[0]) if siblings else None

    async def _agree(self, search: Search, ref: InstanceRef) -> InstanceRef:
        """With `adopt`, others may deploy this name at the same moment: the oldest stays, everybody takes it.

        Lists show instances in the order in which they were made: one with ours in it has all older ones.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.policy.settle
        while (rows := await self._look(search)) is None or all(row.id != ref.id for row in rows):
            if loop.time() >= until:
                search.doubtful = True
                return ref
            await asyncio.sleep(LOOK_EVERY)
        siblings = self._siblings(search, rows)
        if not siblings or siblings[0].id == ref.id:
            return ref
        self._custodian.take_twin(ref)
        return self._claim(search, siblings[0])

    async def _find(self, search: Search, *, settle: float) -> InstanceRef | None:
        """Our instance, or None once a list asked for `settle` seconds from now or later shows none.

        Raises:
            UncertainDeployError: no list came through for as long as the policy would watch.
        """
        loop = asyncio.get_running_loop()
        settled = loop.time() + settle
        while True:
            asked = loop.time()
            rows = await self._look(search)
            mine = None if rows is None else self._siblings(search, rows)
            if mine:
                return self._claim(search, mine[0])
            if mine is not None and asked >= settled:
                return None
            if asked >= settled + self.policy.watch:
                raise self._uncertain(search)
            await asyncio.sleep(min(LOOK_EVERY, max(0.1, settled - loop.time())))

    async def _look(self, search: Search) -> Sequence[Summary] | None:
        """All of that name; None when no list came, or none that can be judged."""
        try:
            rows: Sequence[Summary] = await search.resource.look_for(search.name, lane=Lane.DEPLOY)
        except FluenceError:
            return None
        search.candidates = tuple(
            row.ref for row in rows if not row.status.final and row.id not in self._owned
        )
        # Without a Date no row can be told from an older one of the same name.
        return None if self._since(search) is None else rows

    def _siblings(self, search: Search, rows: Sequence[Summary]) -> list[Summary]:
        """Live instances of that name that may be ours, oldest first; with `adopt`, all of that name."""
        since = self._since(search)
        elsewhere = self._owned | self._journal.handed_over(search.resource.kind, search.name)
        mine = [
            row
            for row in rows
            if not row.status.final
            and not self._custodian.holds(row.ref)
            and (search.adopt or row.id == search.id or row.id not in elsewhere)
            and (since is None or row.created_at >= since - DATE_SLACK)
        ]
        return sorted(mine, key=lambda row: (row.created_at, row.id))

    def _since(self, search: Search) -> datetime | None:
        """Since when, by the service's clock, an instance of that name may be ours; None: not known yet."""
        return LONG_AGO if search.adopt else search.since or self._clock.at(search.began)

    def _claim(self, search: Search, row: Summary) -> InstanceRef:
        """`row` is ours, and what the last unclear attempt has made, if there was one."""
        unclear = search.unclear
        intent = unclear.pop() if unclear else self._journal.intend(row.kind, row.name, None)
        self._journal.identify(intent, row.ref)
        self._owned.add(row.id)
        self._custodian.found(search.name)
        return row.ref

    def _rule_out(self, search: Search, intent: Intent) -> None:
        search.unclear.remove(intent)
        self._journal.close_intent(intent)

    async def _end_twins(self, search: Search) -> None:
        """For a while after an unclear attempt: of live twins one stays; when the deploy failed, none.

        It is the one whose caller has it. With `adopt`, others may have another: then it is the oldest.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.policy.watch
        while True:
            async with self._turn(
                search.resource.kind, search.name
            ):  # what another deploy has, it must own first
                asked = loop.time()
                rows = await self._look(search)
                for twin in self._twins(search, rows or ()):
                    if search.unclear:
                        self._journal.identify(search.unclear.pop(), twin)
                    self._custodian.found(search.name)
                    self._custodian.take_twin(twin)
            if asked >= until:
                break
            await asyncio.sleep(min(_WATCH_EVERY, max(0.1, until - loop.time())))
        if rows is not None:
            for intent in search.unclear:
                self._journal.close_intent(intent)

    def _twins(self, search: Search, rows: Sequence[Summary]) -> list[InstanceRef]:
        siblings = self._siblings(search, rows)
        stays = siblings[0].id if search.adopt and siblings else search.id
        return [row.ref for row in siblings if row.id != stays]

    def _uncertain(self, search: Search) -> UncertainDeployError:
        async def resolve() -> InstanceRef | None:
            mine = self._siblings(search, await search.resource.look_for(search.name))
            if not mine:
                return None
            search.ref = self._claim(search, mine[0])  # the caller's now, so the watch leaves it alone
            self._custodian.hand_over(search.ref)
            return search.ref

        return UncertainDeployError(search.name, search.candidates, resolve=resolve)


@attrs.define(eq=False)
class Search:
    """What tells our instance from others, and what one deploy has come to so far.

    Attributes:
        began: loop time; no instance of ours is older.
        adopt: any live instance of that name will do.
        since: the service's time instead of `began`, when an earlier run began it.
        unclear: attempts that may have made an instance that we do not know.
        doubtful: there was an unclear attempt.
        candidates: what the last list showed of that name.
        ref: ours.
        given_up: its caller has been cancelled.
    """

    resource: Instances[Any, Any, Any]
    name: str
    began: float
    adopt: bool
    since: datetime | None = None
    unclear: list[Intent] = attrs.field(factory=list)
    doubtful: bool = False
    candidates: tuple[InstanceRef, ...] = ()
    ref: InstanceRef | None = None
    given_up: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def id(self) -> str | None:
        """Of ours."""
        return None if self.ref is None else self.ref.id
