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
from typing import Final
from weakref import WeakValueDictionary

from ..background import BackgroundTasks
from ..errors import DecodeError, FluenceError, NotSentError, RateLimitedError, UncertainDeployError
from ..http.codec import check
from ..http.messages import is_safe_id
from ..http.transport import Transport
from ..models.instances import InstanceRef, Summary
from ..models.specs import Spec
from ..models.values import Kind
from ..polling.evidence import Evidence
from ..resources.endpoints import Endpoints
from .custody import Custodian
from .deploy_attempt import DeployAttempt
from .journal import Intent, Journal
from .policy import DeployPolicy, is_certain
from .shared_list import NamedRows, SharedList

_WATCH_EVERY: Final = 15.0
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)


class Deployer:
    """Deploys for one session; every instance has one owner, whether a caller or the custodian."""

    def __init__(
        self,
        home: BackgroundTasks,
        custodian: Custodian,
        journal: Journal,
        transport: Transport,
        policy: DeployPolicy,
        evidence: Evidence,
    ) -> None:
        self.policy: Final = policy
        self._home = home
        self._custodian = custodian
        self._journal = journal
        self._clock = transport.clock
        self._retry = transport.retry
        self.lists: Final = {kind: SharedList(home, evidence, transport.pace) for kind in Kind}
        self._watch_every = _WATCH_EVERY * transport.pace
        evidence.on_over(self._forget)
        self._owned: set[str] = set()
        self._unresolved: dict[tuple[Kind, str], list[Intent]] = {}
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
    ) -> InstanceRef:
        """Deploy `spec` once; with `adopt`, take a live instance of that name instead, if there is one.

        If the caller is cancelled before the POST, nothing is sent. Afterwards `on_failure` decides about the
        instance: `"terminate"` or `"keep"`. Without `hand_over` it stays in custody, until
        `Custodian.hand_over`. `known` is the LIST in which `adopt` finds the instance; None asks for one.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            UncertainDeployError: whether it was deployed could not be found out.
            FluenceError: a refusal, or it never left.
        """
        check([spec])
        is_cancelled = asyncio.Event()
        with self._home.at_work():
            deploying = self._home.spawn(self._in_turn(endpoints, spec, adopt, is_cancelled, known))
            if on_failure == "terminate" and not hand_over:
                deploying.add_done_callback(self._custodian.care_for)
            self._custodian.expect(deploying, spec.name)
            try:
                ref = await asyncio.shield(deploying)
            except asyncio.CancelledError:
                is_cancelled.set()
                settle = partial(self._abandoned, spec.name, on_failure)
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

    def is_deploying(self, kind: Kind, name: str) -> bool:
        """Decide if a deploy of that name is in flight: a row of that name may then be its instance."""
        turn = self._turns.get((kind, name))
        return turn is not None and turn.locked()

    def _forget(self, id: str) -> None:
        """Drop an id that is over: no row of it can be taken for a live instance."""
        self._owned.discard(id)

    def _abandoned(self, name: str, on_failure: str, deploying: asyncio.Future[InstanceRef]) -> None:
        error = deploying.exception()
        if isinstance(error, UncertainDeployError):
            self._custodian.doubt(name)
        elif error is None and on_failure == "terminate":
            self._custodian.take(deploying.result())
        elif error is None:
            self._custodian.hand_over(deploying.result())

    async def _in_turn(
        self,
        endpoints: Endpoints,
        spec: Spec,
        adopt: bool,
        is_cancelled: asyncio.Event,
        known: NamedRows | None,
    ) -> InstanceRef:
        """Deploys of one name go one after another: of two under way none could tell which row is whose."""
        async with self._turn(endpoints.kind, spec.name):
            attempt = self._begin(endpoints, spec.name, adopt)
            attempt.is_cancelled = is_cancelled
            try:
                ref = await self._adopt(attempt, known) if adopt else None
                if ref is None and attempt.unclear:
                    ref = await self._find(attempt, settle=self.policy.settle)
                if ref is None:
                    ref = await self._deploy(attempt, spec)
                attempt.ref = ref
                self._owned.add(ref.id)
                return ref
            finally:
                if adopt and attempt.ref is None:
                    # A row that shows up later may be another program's: no watch, but the next deploy of
                    # the name goes on polling.
                    if attempt.unclear:
                        self._unresolved[endpoints.kind, spec.name] = attempt.unclear
                elif (attempt.doubtful or attempt.unclear) and self.policy.watch:
                    with contextlib.suppress(NotSentError):  # closing: then the deploy itself is in doubt
                        self._custodian.let_watch(
                            self._home.spawn(self._watch_duplicates(attempt)), attempt.name
                        )

    def _turn(self, kind: Kind, name: str) -> asyncio.Lock:
        return self._turns.setdefault((kind, name), asyncio.Lock())

    def _begin(self, endpoints: Endpoints, name: str, adopt: bool) -> DeployAttempt:
        """Begin an attempt. What an earlier run of this journal left open is an unclear attempt of ours."""
        attempt = DeployAttempt(endpoints, name, asyncio.get_running_loop().time(), adopt)
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

    async def _deploy(self, attempt: DeployAttempt, spec: Spec) -> InstanceRef:
        """POST, and while the outcome is unclear: poll, and POST again only once the name is ruled out."""
        waits = self._retry.waits()
        loop = asyncio.get_running_loop()
        posts = 0
        while True:
            if self._journal.path is not None and self._clock.at(loop.time()) is None:
                await self._look(attempt)  # an entry without the service's time proves little to a later run
            kind, now = attempt.endpoints.kind, self._clock.at(loop.time())
            intent = self._journal.intend(kind, attempt.name, now)
            attempt.unclear.append(intent)  # until the outcome is known, and for good if it never is
            if not posts:  # nothing that an attempt of this deploy made is older
                attempt.since = attempt.since or intent.since
            posts += 1
            error: Exception
            try:
                ref = await attempt.endpoints.post(spec, attempt.is_cancelled.is_set)
            except Exception as caught:  # of a foreign type, too: the request may have left
                error = caught
            else:
                if is_safe_id(ref.id):
                    attempt.unclear.remove(intent)
                    self._journal.identify(intent, ref)
                    return await self._agree(attempt, ref) if attempt.adopt else ref
                raise await self._unusable(attempt)
            if is_certain(error):
                self._rule_out(attempt, intent)
                raise error
            attempt.doubtful, attempt.last_error = True, error
            pause = self._retry.pause_after(error, next(waits)) if isinstance(error, FluenceError) else 0.0
            found = await self._find(attempt, settle=self.policy.settle_after(error))
            if found is not None:
                return found
            if pause is None or posts >= self.policy.max_posts:
                if isinstance(error, RateLimitedError):  # refused in so many words, and no LIST shows it
                    raise error
                raise self._uncertain(attempt)

    async def _unusable(self, attempt: DeployAttempt) -> UncertainDeployError:
        """The error of a deploy whose reply has an id that no path can carry.

        The instance exists. A row of that name has another id than the reply, so it is only a candidate.
        """
        attempt.doubtful = True
        attempt.last_error = DecodeError("the id of the new instance is not an id", path="$.instance_id")
        if (rows := await self._look(attempt)) is not None:
            self._siblings(attempt, rows)
        return self._uncertain(attempt)

    async def _adopt(self, attempt: DeployAttempt, known: NamedRows | None) -> InstanceRef | None:
        """The live instance of that name, if there is one.

        Raises:
            FluenceError: the LIST failed.
            DecodeError: the LIST is partial and lacks the name, which proves nothing.
        """
        rows = known or await self.lists[attempt.endpoints.kind].now(attempt.endpoints)
        siblings, doubtful = self._siblings(attempt, rows)
        if siblings:
            return self._claim(attempt, siblings[0])
        if doubtful or not rows.is_whole:
            why = "its row does not fit the contract" if doubtful else "the LIST is partial"
            what = f"a live {attempt.endpoints.kind} {attempt.name} can be neither found nor ruled out"
            raise DecodeError(f"{what}: {why}; nothing was sent")
        return None

    async def _agree(self, attempt: DeployAttempt, ref: InstanceRef) -> InstanceRef:
        """With `adopt`, others may deploy this name at the same moment: the oldest stays, everybody takes it.

        Lists show instances in the order in which they were made: one with ours in it has all older ones.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.policy.settle
        while True:
            rows = await self._look(attempt)
            siblings, _ = self._siblings(attempt, rows) if rows is not None else ([], [])
            if any(row.id == ref.id for row in siblings):
                break
            if loop.time() >= until:
                attempt.doubtful = True
                return ref
        if siblings[0].id == ref.id:
            return ref
        self._custodian.take_duplicate(ref)
        return self._claim(attempt, siblings[0])

    async def _find(self, attempt: DeployAttempt, *, settle: float) -> InstanceRef | None:
        """Our instance, or None once a whole LIST requested `settle` seconds from now or later lacks it.

        Raises:
            UncertainDeployError: no such LIST came for as long as the policy would watch, or a row of that
                name may be ours and may be older.
        """
        loop = asyncio.get_running_loop()
        settled = loop.time() + settle
        while True:
            rows = await self._look(attempt)
            if rows is not None:
                mine, doubtful = self._siblings(attempt, rows)
                if mine:
                    return self._claim(attempt, mine[0])
                if rows.asked >= settled and (doubtful or rows.nameless):
                    raise self._uncertain(attempt)
                if rows.asked >= settled and rows.is_whole:
                    return None
            if loop.time() >= settled + self.policy.watch:
                raise self._uncertain(attempt)

    async def _look(self, attempt: DeployAttempt) -> NamedRows | None:
        """The next LIST; None when it failed."""
        moment = asyncio.get_running_loop().time()
        try:
            return await self.lists[attempt.endpoints.kind].after(attempt.endpoints, moment)
        except NotSentError as error:
            if error.permanent:  # the session is closed
                raise
            return None
        except Exception:  # a failed LIST shows nothing, whatever made it fail
            return None

    def _siblings(self, attempt: DeployAttempt, rows: NamedRows) -> tuple[list[Summary], list[InstanceRef]]:
        """Live instances of that name that are not another deploy's; see `DeployAttempt.siblings`."""
        return attempt.siblings(
            rows,
            LONG_AGO if attempt.adopt else attempt.since or self._clock.at(attempt.began),
            is_ending=self._custodian.holds,
            is_elsewhere=self._is_elsewhere,
        )

    def _is_elsewhere(self, id: object) -> bool:
        """Decide if another deploy has the instance: one of this session, or one in the journal."""
        return id in self._owned or (type(id) is str and self._journal.is_held(id))

    def _claim(self, attempt: DeployAttempt, row: Summary) -> InstanceRef:
        """Take `row`, and note which POST made it.

        With `adopt` it may be another program's. Our own unclear POST then stays open; without one, the
        instance is not ours to end if this program dies, unless the journal proves that no caller had it.
        """
        intent = attempt.take_unclear(row.id, named=attempt.adopt)
        is_adopted = attempt.adopt and intent is None and not attempt.unclear
        is_adopted = is_adopted and not self._journal.is_unclaimed(row.id)
        intent = intent or self._journal.intend(row.kind, row.name, None)
        self._journal.identify(intent, row.ref)
        if is_adopted:
            self._journal.hand_over(row.ref)
        self._owned.add(row.id)
        self._custodian.found(attempt.name)
        return row.ref

    def _rule_out(self, attempt: DeployAttempt, intent: Intent) -> None:
        attempt.unclear.remove(intent)
        self._journal.close_intent(intent)

    async def _watch_duplicates(self, attempt: DeployAttempt) -> None:
        """`_end_duplicates`; a watch that breaks off leaves the name in doubt.

        Raises:
            Exception: as `_end_duplicates`.
        """
        try:
            await self._end_duplicates(attempt)
        except Exception:
            self._custodian.doubt(attempt.name)
            raise

    async def _end_duplicates(self, attempt: DeployAttempt) -> None:
        """For a while after an unclear attempt: of live twins one stays; when the deploy failed, none.

        It is the one whose caller has it. With `adopt`, another session may have another one: both stay, and
        the name is in doubt.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.policy.watch
        while True:
            async with self._turn(attempt.endpoints.kind, attempt.name):  # another deploy names its own first
                rows = await self._look(attempt)
                mine, doubtful = self._siblings(attempt, rows) if rows is not None else ([], [])
                duplicates = self._twins(attempt, mine)
                if attempt.adopt:
                    doubtful += [
                        row.ref for row in mine if row.id != attempt.id and row.ref not in duplicates
                    ]
                for duplicate in duplicates:
                    if (intent := attempt.take_unclear(duplicate.id)) is not None:
                        self._journal.identify(intent, duplicate)
                    self._custodian.found(attempt.name)
                    self._custodian.take_duplicate(duplicate, deployed_twice=attempt.ref is not None)
            if rows is not None and rows.asked >= until:
                break
            if loop.time() >= until + self.policy.watch:
                break
            # All watches of a kind poll together, at multiples of the interval.
            every = self._watch_every
            await asyncio.sleep(min(every - loop.time() % every, max(0.0, until - loop.time())))
        if rows is not None and rows.is_whole and not (doubtful or rows.nameless):
            for intent in attempt.unclear:
                self._journal.close_intent(intent)
            if attempt.ref is None:
                self._custodian.found(attempt.name)
        elif attempt.ref is not None and (attempt.unclear or (attempt.adopt and doubtful)):
            # No LIST rules the others out, and no error has named them to the caller.
            self._custodian.doubt(attempt.name)

    def _twins(self, attempt: DeployAttempt, siblings: Sequence[Summary]) -> list[InstanceRef]:
        others = [row.ref for row in siblings if row.id != attempt.id]
        if attempt.adopt and attempt.ref is not None:
            # The caller has this one. Another may be another session's: it is ended only if its id is ours.
            return [ref for ref in others if ref.id in attempt.ids and not self._is_elsewhere(ref.id)]
        return others

    def _uncertain(self, attempt: DeployAttempt) -> UncertainDeployError:
        async def resolve() -> InstanceRef | None:
            with self._home.at_work():
                rows = await self.lists[attempt.endpoints.kind].now(attempt.endpoints)
                mine, doubtful = self._siblings(attempt, rows)
                if not mine and (doubtful or not rows.is_whole):
                    raise DecodeError(f"no reply shows whether {attempt.name} was deployed")
                if not mine:
                    return None
                attempt.ref = self._claim(attempt, mine[0])  # the caller's now, so the watch leaves it alone
                self._custodian.hand_over(attempt.ref)
                return attempt.ref

        error = UncertainDeployError(attempt.name, attempt.candidates, resolve=resolve)
        error.__cause__ = attempt.last_error
        return error
