"""Deploying exactly once over an API without idempotency keys: the name is the key.

After a POST with an unclear outcome come polls. Another POST follows only if the polls rule the first one
out. All runs in the session's tasks, so that a cancelled caller never loses an id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from ..background import BackgroundTasks, loop_time
from ..errors import (
    DecodeError,
    FluenceError,
    NotSentError,
    PlanUnavailableError,
    RateLimitedError,
    UncertainDeployError,
)
from ..http.codec import check
from ..http.messages import is_safe_id
from ..http.retry import is_certain
from ..http.transport import Transport
from ..models.instances import InstanceRef, Summary
from ..models.specs import Spec
from ..models.values import Kind
from ..polling.evidence import Evidence
from ..resources.catalogue import Catalogue, Choice
from ..resources.endpoints import Endpoints
from .custody import Custodian
from .deploy_attempt import DeployAttempt
from .journal import Journal
from .journal_entries import Intent
from .options import DeployPolicy
from .shared_list import NamedRows, SharedList

_WATCH_EVERY: Final = 15.0
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)


class Deployer:
    """Deploys for one session. Each instance has one owner: a caller or the custodian."""

    def __init__(
        self,
        tasks: BackgroundTasks,
        custodian: Custodian,
        journal: Journal,
        transport: Transport,
        policy: DeployPolicy,
        evidence: Evidence,
        catalogue: Catalogue,
    ) -> None:
        self.policy: Final = policy
        self.catalogue: Final = catalogue
        self._tasks = tasks
        self._custodian = custodian
        self._journal = journal
        self._clock = transport.clock
        self._retry = transport.retry
        self.lists: Final = {kind: SharedList(tasks, evidence, transport.pace) for kind in Kind}
        self._watch_every = _WATCH_EVERY * transport.pace
        self._owned: set[str] = set()
        self._evidence = evidence
        evidence.on_over(self._owned.discard)  # no row of an instance that is over counts as live
        self._unresolved: dict[tuple[Kind, str], list[Intent]] = {}
        self._posts: dict[tuple[Kind, str], int] = {}  # sent before a NotSentError, for the next deploy
        self._turns: WeakValueDictionary[tuple[Kind, str], asyncio.Lock] = WeakValueDictionary()

    async def __call__(
        self,
        endpoints: Endpoints,
        spec: Spec,
        *,
        on_failure: str = "terminate",
        adopt: bool = False,
        hand_over: bool = True,
        known: NamedRows | None = None,
        choice: Choice | None = None,
    ) -> InstanceRef:
        """Deploy `spec` once, on the first plan that the service does not refuse.

        With `adopt`, take a live instance of that name instead, if there is one. If the caller is cancelled
        before the POST, nothing is sent. Afterwards `on_failure` decides about the instance: `"terminate"` or
        `"keep"`. Without `hand_over` it stays in custody, until `Custodian.hand_over`. `known` is the LIST in
        which `adopt` finds the instance. None requests a LIST. `choice` has the plans, by default the spec's.
        """
        check([spec])
        is_cancelled = asyncio.Event()
        with self._tasks.at_work():
            choice, ref = choice or self.catalogue.choice(spec), None
            while ref is None:  # more than once if an alternative has another name
                name, work = choice.spec.name, self._in_turn(endpoints, choice, adopt, is_cancelled, known)
                deploying = self._tasks.spawn(work)
                if on_failure == "terminate" and not hand_over:
                    deploying.add_done_callback(self._custodian.care_for)
                self._custodian.expect(deploying, name)
                try:
                    ref = await asyncio.shield(deploying)
                except asyncio.CancelledError:
                    is_cancelled.set()
                    settle = partial(self._abandoned, name, on_failure)
                    if deploying.done():  # at once: the session may be closed in the next step
                        settle(deploying)
                    else:
                        deploying.add_done_callback(settle)
                    raise
            if hand_over:
                self._custodian.hand_over(ref)
        return ref

    def owns(self, id: str) -> bool:
        """Return True if this session has deployed or adopted the instance `id`."""
        return id in self._owned

    def is_deploying(self, kind: Kind, name: str) -> bool:
        """Return True if a deploy of that name is in flight: a row of that name may then be its instance."""
        turn = self._turns.get((kind, name))
        return turn is not None and turn.locked()

    def _abandoned(self, name: str, on_failure: str, deploying: asyncio.Future[InstanceRef | None]) -> None:
        error = deploying.exception()
        if isinstance(error, UncertainDeployError):
            self._custodian.doubt(name)
        elif error is None and (ref := deploying.result()) is not None:
            self._custodian.take(ref) if on_failure == "terminate" else self._custodian.hand_over(ref)

    async def _in_turn(
        self,
        endpoints: Endpoints,
        choice: Choice,
        adopt: bool,
        is_cancelled: asyncio.Event,
        known: NamedRows | None,
    ) -> InstanceRef | None:
        """Run deploys of one name in turn: of two at once, neither could find out which row is its own."""
        name = choice.spec.name
        async with self._turn(endpoints.kind, name):
            attempt = self._begin(endpoints, name, adopt)
            attempt.is_cancelled = is_cancelled
            try:
                ref = await self._adopt(attempt, known) if adopt else None
                if ref is None and attempt.unclear:
                    ref = await self._find(attempt, settle=self.policy.settle)
                if ref is None:
                    ref = await self._deploy(attempt, choice)
                attempt.ref = ref
                if ref is not None:
                    self._owned.add(ref.id)
                return ref
            finally:
                if adopt and attempt.ref is None:
                    if attempt.unclear:  # a later row may be another program's: only the next deploy polls
                        self._unresolved[endpoints.kind, name] = attempt.unclear
                        if not attempt.is_named:
                            self._custodian.doubt(name)
                elif (attempt.doubtful or attempt.unclear) and self.policy.watch:
                    with contextlib.suppress(NotSentError):  # at a close, the deploy itself is in doubt
                        self._custodian.let_watch(self._tasks.spawn(self._watch_duplicates(attempt)), name)

    def _turn(self, kind: Kind, name: str) -> asyncio.Lock:
        return self._turns.setdefault((kind, name), asyncio.Lock())

    def _begin(self, endpoints: Endpoints, name: str, adopt: bool) -> DeployAttempt:
        """Begin an attempt. It inherits the open POSTs of earlier runs of this journal as its own."""
        attempt = DeployAttempt(endpoints, name, loop_time(), adopt)
        attempt.unclear = self._unresolved.pop((endpoints.kind, name), [])
        left = self._journal.inherited(endpoints.kind, name)
        attempt.claims_undated = all(intent.is_of_early_version for intent in left if intent.since is None)
        inherited = map(self._journal.inherit, left)
        attempt.unclear += [intent for intent in inherited if intent is not None]
        unnamed = [intent for intent in attempt.unclear if intent.id is None]
        attempt.ids = {intent.id for intent in attempt.unclear if intent.id is not None}
        attempt.is_undated = any(intent.since is None for intent in unnamed)
        attempt.since = min((intent.since for intent in unnamed if intent.since is not None), default=None)
        attempt.doubtful = bool(unnamed)
        return attempt

    async def _deploy(self, attempt: DeployAttempt, choice: Choice) -> InstanceRef | None:
        """POST. While the outcome is unclear, poll, and POST again only if the first is ruled out.

        A refusal proves that its POST created nothing: then take the next plan. None: with another name.
        """
        spec = await choice.next()
        waits = self._retry.waits()
        kind = attempt.endpoints.kind
        posts = before = self._posts.pop((kind, attempt.name), 0)
        while spec.name == attempt.name:
            if self._journal.path is not None and self._clock.now is None:
                await self._poll(attempt)  # the entry needs the service's time, for later runs
            intent = self._journal.intend(kind, attempt.name, self._clock.now)
            attempt.unclear.append(intent)  # removed once the outcome is known
            if posts == before:  # the first POST: no instance of this deploy is older
                attempt.since = attempt.since or intent.since
            posts += 1
            error: Exception
            try:
                ref = await attempt.endpoints.post(spec, attempt.is_cancelled.is_set)
            except Exception as caught:  # of any type: the request may have left
                error = caught
            else:
                if is_safe_id(ref.id):
                    attempt.unclear.remove(intent)
                    self._journal.identify(intent, ref)
                    return await self._agree(attempt, ref) if attempt.adopt else ref
                # The instance exists. A row of its name is only a candidate: the row's id is another.
                attempt.doubtful, place = True, "$.instance_id"
                attempt.last_error = DecodeError("the id of the new instance is not an id", path=place)
                if (rows := await self._poll(attempt)) is not None:
                    self._siblings(attempt, rows)
                raise self._uncertain(attempt)
            if is_certain(error):
                attempt.unclear.remove(intent)
                self._journal.close_intent(intent)
                if isinstance(error, NotSentError) and posts > 1:
                    self._posts[kind, attempt.name] = posts - 1
                # An instance that cannot be ended keeps billing: no more money is spent until that is solved.
                is_stopped = self._custodian.is_failing or attempt.is_cancelled.is_set()
                if isinstance(error, PlanUnavailableError) and not is_stopped:
                    spec = await choice.next(error)
                    posts -= 1
                    continue
                raise error
            attempt.doubtful, attempt.last_error = True, error
            pause = self._retry.pause_after(error, next(waits)) if isinstance(error, FluenceError) else 0.0
            found = await self._find(attempt, settle=self.policy.settle_after(error))
            if found is not None:
                return found
            if pause is None or posts >= self.policy.max_posts:
                if isinstance(error, RateLimitedError):  # a clear refusal, and no LIST shows an instance
                    raise error
                raise self._uncertain(attempt)
        return None

    async def _adopt(self, attempt: DeployAttempt, known: NamedRows | None = None) -> InstanceRef | None:
        """Find the live instance of that name, or return None. A partial LIST without it proves nothing."""
        rows = known or await self.lists[attempt.endpoints.kind].now(attempt.endpoints)
        siblings, doubtful = self._siblings(attempt, rows)
        if siblings:
            return self._claim(attempt, siblings[0])
        if doubtful or not rows.is_whole:
            why = "its row does not fit the contract" if doubtful else "the LIST is partial"
            what = f"a live {attempt.endpoints.kind} {attempt.name} can be neither found nor ruled out"
            raise DecodeError(f"{what}: {why}. This call has deployed nothing")
        return None

    async def _agree(self, attempt: DeployAttempt, ref: InstanceRef) -> InstanceRef:
        """Return the instance that all deploys with `adopt` of this name take: the oldest.

        A LIST shows instances in order of creation: if it shows `ref`, it shows all older ones.
        """
        until = loop_time() + self.policy.settle
        while True:
            rows = await self._poll(attempt)
            siblings, _ = self._siblings(attempt, rows) if rows is not None else ([], [])
            if any(row.id == ref.id for row in siblings):
                break
            if loop_time() >= until:
                attempt.doubtful = True
                return ref
        if siblings[0].id == ref.id:
            return ref
        self._custodian.take_duplicate(ref)
        return self._claim(attempt, siblings[0])

    async def _find(self, attempt: DeployAttempt, *, settle: float) -> InstanceRef | None:
        """Find the instance. Return None once a whole LIST requested after `settle` seconds lacks it.

        The outcome is uncertain without such a LIST, or if a row of the name may be this deploy's, or older.
        """
        settled = loop_time() + settle
        while True:
            rows = await self._poll(attempt)
            if rows is not None:
                mine, doubtful = self._siblings(attempt, rows)
                if mine:
                    return self._claim(attempt, mine[0])
                if rows.asked >= settled and (doubtful or rows.nameless):
                    raise self._uncertain(attempt)
                if rows.asked >= settled and rows.is_whole:
                    return None
            if loop_time() >= settled + self.policy.watch:
                raise self._uncertain(attempt)

    async def _poll(self, attempt: DeployAttempt) -> NamedRows | None:
        """Request the next LIST, and return it, or None if it failed."""
        try:
            return await self.lists[attempt.endpoints.kind].after(attempt.endpoints, loop_time())
        except NotSentError as error:
            if error.permanent:  # the session is closed
                raise
            return None
        except Exception:  # a failed LIST shows nothing, for any cause
            return None

    def _siblings(self, attempt: DeployAttempt, rows: NamedRows) -> tuple[list[Summary], list[InstanceRef]]:
        """Live instances of that name, without other deploys' instances. See `DeployAttempt.siblings`.

        A later LIST without one of them proves nothing: the account's LIST keeps even ended instances.
        """
        siblings, doubtful = attempt.siblings(
            rows,
            _LONG_AGO if attempt.adopt else attempt.since or self._clock.at(attempt.began),
            is_ending=self._custodian.holds,
            is_elsewhere=self._is_elsewhere,
        )
        for row in siblings:
            self._evidence.saw(row.kind, row.id, row.status, rows.asked)
        return siblings, doubtful

    def _is_elsewhere(self, id: object) -> bool:
        """Return True if another deploy has the instance: a deploy of this session, or one in the journal."""
        return id in self._owned or (type(id) is str and self._journal.claims.is_held(id))

    def _claim(self, attempt: DeployAttempt, row: Summary) -> InstanceRef:
        """Take `row` as the instance, and assign it to the POST that made it.

        With `adopt`, the instance may be another program's. An unclear POST then stays open. Without such a
        POST, no later run may end the instance, unless the journal proves that no caller had it.
        """
        intent = attempt.take_unclear(row.id, named=attempt.adopt)
        is_adopted = attempt.adopt and intent is None and not attempt.unclear
        is_adopted = is_adopted and not self._journal.claims.is_unclaimed(row.id)
        intent = intent or self._journal.intend(row.kind, row.name, None)
        self._journal.identify(intent, row.ref)
        if is_adopted:
            self._journal.hand_over(row.ref)
        self._owned.add(row.id)
        self._custodian.found(attempt.name)
        return row.ref

    async def _watch_duplicates(self, attempt: DeployAttempt) -> None:
        """Run `_end_duplicates`. If it fails, the name is in doubt."""
        try:
            await self._end_duplicates(attempt)
        except Exception:
            self._custodian.doubt(attempt.name)
            raise

    async def _end_duplicates(self, attempt: DeployAttempt) -> None:
        """End duplicates that appear after an unclear attempt. If the deploy failed, end all its instances.

        The instance that the caller holds stays. With `adopt`, another session may hold another one: then
        both stay, and the name is in doubt.
        """
        until = loop_time() + self.policy.watch
        while True:
            async with self._turn(attempt.endpoints.kind, attempt.name):  # another deploy finds its own first
                rows = await self._poll(attempt)
                mine, doubtful = self._siblings(attempt, rows) if rows is not None else ([], [])
                duplicates = self._duplicates(attempt, mine)
                if attempt.adopt:
                    doubtful += [
                        row.ref for row in mine if row.id != attempt.id and row.ref not in duplicates
                    ]
                for duplicate in duplicates:
                    if (intent := attempt.take_unclear(duplicate.id)) is not None:
                        self._journal.identify(intent, duplicate)
                    self._custodian.found(attempt.name)
                    self._custodian.take_duplicate(duplicate, deployed_twice=attempt.ref is not None)
            is_over = rows is not None and rows.asked >= until
            if is_over or loop_time() >= until + self.policy.watch:
                break
            # All watches of a kind poll together, at multiples of the interval.
            every, now = self._watch_every, loop_time()
            await asyncio.sleep(min(every - now % every, max(0.0, until - now)))
        if rows is not None and rows.is_whole and not (doubtful or rows.nameless):
            for intent in attempt.unclear:
                self._journal.close_intent(intent)
            if attempt.ref is None or attempt.adopt:
                self._custodian.found(attempt.name)
        elif not attempt.is_named and (attempt.unclear or (attempt.adopt and doubtful)):
            self._custodian.doubt(attempt.name)

    def _duplicates(self, attempt: DeployAttempt, siblings: Sequence[Summary]) -> list[InstanceRef]:
        others = [row.ref for row in siblings if row.id != attempt.id]
        if attempt.adopt and attempt.ref is not None:
            # The caller holds one instance. Another session may hold the rest: only known ids are ended.
            return [ref for ref in others if ref.id in attempt.ids and not self._is_elsewhere(ref.id)]
        return others

    def _uncertain(self, attempt: DeployAttempt) -> UncertainDeployError:
        async def resolve() -> InstanceRef | None:
            with self._tasks.at_work():
                ref = await self._adopt(attempt)
                if ref is not None:
                    attempt.ref = ref  # the caller's from now on: no duplicate
                    self._custodian.hand_over(ref)
                return ref

        attempt.is_named = True
        error = UncertainDeployError(attempt.name, attempt.candidates, resolve=resolve)
        error.__cause__ = attempt.last_error
        return error
