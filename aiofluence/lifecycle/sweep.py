"""Sweeping: finding and ending the instances that an earlier run left behind.

Reads the journal and the lists, and ends through the custodian. A failed LIST, an unreadable row and an entry
without proof do not stop the rest: the report names or counts them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from ..background import in_turns, loop_time
from ..errors import AuthError, ConfigError, FluenceError
from ..http.messages import Json, safe_id
from ..http.readers import MisfitError, moment
from ..http.transport import ServerClock
from ..models.instances import InstanceRef
from ..models.values import Kind, Status
from ..polling.evidence import Evidence
from ..polling.schedule import backing_off
from ..resources.endpoints import Endpoints
from .custody import Custodian
from .deploy import Deployer
from .journal import Journal
from .journal_entries import ENDED, NOTHING, SKEW, Intent, ListedRow
from .shared_list import INTERVAL

_REFUSALS: Final = 3
"""LISTs of a kind that the service may refuse before the sweep continues without that kind."""
_LONGEST_PAUSE: Final = 15.0
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@attrs.frozen
class SweepReport:
    """The instances that a sweep found, and their fate.

    Attributes:
        found: live instances that match.
        ended: those of `found` that are gone. None of them in a dry run.
        left: those of `found` that still run: all in a dry run, else those that could not be ended.
        unsettled: names of deploys in the journal for which no LIST shows an instance that is certainly
            theirs. A possible instance (older, renamed, or of an unclear entry) was not ended. After a dry
            run, instances may still appear.
        failed: error of each kind whose LIST failed. Instances of that kind may be missing here.
        unreadable: number of rows without a readable id, status, name or time. They may be missing here.
        foreign: number of open journal entries of another account or service. The sweep ignored them.
    """

    found: tuple[InstanceRef, ...] = ()
    ended: tuple[InstanceRef, ...] = ()
    left: tuple[InstanceRef, ...] = ()
    unsettled: tuple[str, ...] = ()
    failed: Mapping[Kind, FluenceError] = attrs.field(factory=dict, hash=False)
    unreadable: int = 0
    foreign: int = 0


@attrs.frozen
class _Listing:
    """The readable part of one LIST.

    Attributes:
        asked: loop time of the request.
        date: the service's time of the request, noted at the reply. A machine that is suspended later would
            falsify a conversion of `asked`. None if unknown.
        rows: rows by id.
        unreadable: number of rows without a readable id, status, name or time.
        is_whole: the LIST is complete, so that absence from the LIST is evidence.
    """

    asked: float
    date: datetime | None
    rows: Mapping[str, ListedRow]
    unreadable: int
    is_whole: bool


@attrs.define
class _Verdict:
    """Open intents of dead runs, by the evidence of the lists.

    Attributes:
        made: live instances that the intents provably made.
        over: intents whose instance is over.
        missing: intents for which no row shows an instance.
        unclear: intents with a row that may be theirs, without a proof.
    """

    made: dict[Intent, InstanceRef] = attrs.field(factory=dict)
    over: list[Intent] = attrs.field(factory=list)
    missing: list[Intent] = attrs.field(factory=list)
    unclear: list[Intent] = attrs.field(factory=list)


class Sweeper:
    """Sweeps for one session."""

    def __init__(
        self,
        resources: Mapping[Kind, Endpoints],
        custodian: Custodian,
        journal: Journal,
        clock: ServerClock,
        deployer: Deployer,
        evidence: Evidence,
    ) -> None:
        self._resources: Final = resources
        self._custodian = custodian
        self._journal = journal
        self._clock = clock
        self._settle = deployer.policy.settle
        self._settled = 0.0
        """Loop time from which on a LIST decides about an entry of any age."""
        self._deployer = deployer
        self._evidence = evidence
        self._listings: dict[Kind, _Listing] = {}
        self._failed: dict[Kind, FluenceError] = {}

    async def __call__(
        self,
        prefix: str | None,
        older_than: timedelta | float | None,
        dry_run: bool,
        only: Collection[InstanceRef] | None = None,
    ) -> SweepReport:
        """See `Session.sweep`."""
        if prefix is None and older_than is None and self._journal.path is None:
            raise ConfigError("a sweep needs a journal, a prefix or older_than: it never means everything")
        if prefix == "":
            raise ConfigError("an empty prefix means every instance; leave it out, or name one")
        age = _age(older_than)
        self._settled = loop_time() + self._settle
        verdict = await self._read_lists(dry_run)
        found = dict.fromkeys(verdict.made.values())
        if prefix is not None or age is not None:
            found |= dict.fromkeys(row.ref for row in self._rows() if self._fits(row, prefix, age))
        refs = tuple(ref for ref in found if only is None or ref in only)
        ended: list[InstanceRef] = []
        gone: list[InstanceRef] = []
        if not dry_run:
            ended, gone = await self._end(verdict, refs), self._close_missing(verdict)
        return SweepReport(
            found=(*refs, *gone),
            ended=(*ended, *gone),
            left=tuple(ref for ref in refs if ref not in ended),
            unsettled=tuple(
                intent.name for intent in (*verdict.missing, *verdict.unclear) if intent.ref not in gone
            ),
            failed=dict(self._failed),
            unreadable=sum(listing.unreadable for listing in self._listings.values()),
            foreign=self._journal.claims.foreign,
        )

    # --- reading --------------------------------------------------------------------------------------------

    async def _read_lists(self, dry_run: bool) -> _Verdict:
        """LIST every kind. For `settle` seconds, repeat kinds whose LIST failed or proves too little."""
        pauses = backing_off(_LONGEST_PAUSE)
        refusals = dict.fromkeys(self._resources, 0)
        wanted = set(self._resources)
        while True:
            asked = loop_time()
            await asyncio.gather(*map(self._list, wanted))
            verdict = self._judge()
            failing = set()
            for kind, error in self._failed.items():
                refusals[kind] += isinstance(error, AuthError)
                if refusals[kind] < _REFUSALS:
                    failing.add(kind)
            open_kinds = {intent.kind for intent in verdict.missing if not self._is_disproved(intent)}
            wanted = failing if dry_run else failing | open_kinds
            if not wanted or asked >= self._settled:
                break
            pause = next(pauses) if failing else INTERVAL
            await asyncio.sleep(max(0.1, min(pause, self._settled - loop_time())))
        if not self._listings:  # no LIST of any kind succeeded
            raise next(iter(self._failed.values()))
        return verdict

    async def _list(self, kind: Kind) -> None:
        asked = loop_time()
        endpoints = self._resources[kind]
        read: dict[str, ListedRow] = {}
        unreadable = 0
        try:
            rows = await endpoints.rows()
            async for id, status, raw in in_turns(rows):
                row, is_clear = _read(kind, id, status, raw)
                unreadable += not is_clear
                if row is not None:
                    read[id] = row
        except FluenceError as error:
            self._failed[kind] = error
            return
        self._failed.pop(kind, None)
        is_whole = rows.is_complete and not unreadable and self._evidence.is_complete(kind, read, asked)
        self._listings[kind] = _Listing(
            asked, self._clock.at(asked), read, rows.unreadable + unreadable, is_whole
        )

    def _rows(self) -> list[ListedRow]:
        return [row for listing in self._listings.values() for row in listing.rows.values()]

    def _fits(self, row: ListedRow, prefix: str | None, age: timedelta | None) -> bool:
        """Return True if `row` is another session's live instance, with this prefix and at least this age."""
        is_ours = self._deployer.owns(row.id) or self._deployer.is_deploying(row.kind, row.name)
        if row.status.final or is_ours or not row.name.startswith(prefix or ""):
            return False
        now = self._clock.now
        return age is None or (
            now is not None and row.created_at is not _NEVER and now - row.created_at >= age
        )

    # --- judging --------------------------------------------------------------------------------------------

    def _judge(self) -> _Verdict:
        """Judge every open intent of a dead run by the lists and by all other entries of the journal."""
        verdict = _Verdict()
        intents = self._journal.claims.left_behind()
        unnamed: dict[tuple[Kind, str], list[Intent]] = {}
        for intent in intents:
            if intent.id is None:
                unnamed.setdefault((intent.kind, intent.name), []).append(intent)
            else:
                self._judge_by_id(intent, intent.id, verdict)
        if unnamed:
            live: dict[tuple[Kind, str], list[ListedRow]] = {}
            named = {intent.id for intent in intents}  # a POST made one instance: these match no other entry
            for row in self._rows():
                if not row.status.final and row.id not in named and not self._is_in_hands(row.id):
                    live.setdefault((row.kind, row.name), []).append(row)
            for key, group in unnamed.items():
                self._judge_by_name(group, live.get(key, []), verdict)
        verdict.missing = [intent for intent in verdict.missing if intent not in self._journal.absent]
        return verdict

    def _judge_by_id(self, intent: Intent, id: str, verdict: _Verdict) -> None:
        row = next((listing.rows[id] for listing in self._listings.values() if id in listing.rows), None)
        if self._is_in_hands(id):
            return  # a later entry holds it
        if row is None:
            verdict.missing.append(intent)
        elif row.status.final:
            verdict.over.append(intent)
        elif intent.may_have_made(row) and self._journal.claims.owner_of(row) is not None:
            verdict.made[intent] = row.ref
        else:
            verdict.unclear.append(intent)

    def _judge_by_name(self, intents: list[Intent], rows: list[ListedRow], verdict: _Verdict) -> None:
        """Judge intents of one name whose ids are unknown.

        One POST makes one instance. With more rows than intents, some rows are another program's.
        """
        proven = [row for row in rows if self._journal.claims.owner_of(row) is not None]
        named = [intent for intent in intents if not intent.is_garbled]
        if proven and len(proven) > len(named):
            verdict.unclear += intents
            return
        for row in proven:
            intent = next((intent for intent in named if intent.may_have_made(row)), None)
            if intent is not None:
                verdict.made[intent] = row.ref
                named.remove(intent)
        others = [row for row in rows if row not in proven]
        for intent in (intent for intent in intents if intent not in verdict.made):
            may_be = any(intent.may_have_made(row) or intent.looks_older(row) for row in others)
            (verdict.unclear if may_be else verdict.missing).append(intent)

    def _is_in_hands(self, id: str) -> bool:
        return self._deployer.owns(id) or self._journal.claims.is_held(id)

    # --- ending ---------------------------------------------------------------------------------------------

    async def _end(self, verdict: _Verdict, refs: Collection[InstanceRef]) -> list[InstanceRef]:
        """End `refs`, and return those that are gone. The journal names this run as their owner first."""
        made = {intent: ref for intent, ref in verdict.made.items() if ref in refs}
        for intent, ref in made.items():
            with contextlib.suppress(ConfigError):  # the instance ends even if the disk is full
                if self._journal.inherit(intent, ref) is None:  # its own run has it again
                    refs = [other for other in refs if other != ref]
        outcomes = await asyncio.gather(*map(self._custodian.see_gone, refs), return_exceptions=True)
        ended = [ref for ref, outcome in zip(refs, outcomes, strict=True) if outcome is True]
        for intent in (*verdict.over, *(intent for intent, ref in made.items() if ref in ended)):
            self._journal.close_left(intent, ENDED)
        return ended

    def _is_disproved(self, intent: Intent) -> bool:
        """Return True if a complete and late enough LIST lacks the instance of a missing intent.

        Late enough is `settle` seconds after the POST. The time of the POST is the service's: clocks differ.
        """
        listing = self._listings.get(intent.kind)
        if listing is None or not listing.is_whole:
            return False
        age = self._age(intent)
        settle = timedelta(seconds=self._settle) + SKEW
        return (age is not None and age >= settle) or listing.asked >= self._settled

    def _close_missing(self, verdict: _Verdict) -> list[InstanceRef]:
        """Close intents that a complete and late enough LIST disproves. Return the ids that it lacks.

        A POST may be committed later than `settle`. Its entry stays open for later sweeps for as long as a
        deploy would watch for its instance. An entry without an account may be another account's, whose
        lists would show the instance.
        """
        gone = []
        for intent in verdict.missing:
            if not self._is_disproved(intent):
                continue
            if intent.ref is None and self._may_come(intent):
                self._journal.absent.add(intent)
            elif intent.account_is_ours and not intent.is_garbled:
                is_closed = self._journal.close_left(intent, NOTHING if intent.ref is None else ENDED)
                if is_closed and intent.ref is not None:
                    gone.append(intent.ref)
        return gone

    def _may_come(self, intent: Intent) -> bool:
        """Return True if the POST was so young at the last LIST that its instance may still appear."""
        age, policy = self._age(intent), self._deployer.policy
        return age is not None and age < timedelta(seconds=policy.settle + policy.watch)

    def _age(self, intent: Intent) -> timedelta | None:
        """Return the age of the POST at the request of the last LIST, by the service's clock."""
        listed = self._listings[intent.kind].date
        return None if intent.since is None or listed is None else listed - intent.since


def _age(older_than: timedelta | float | None) -> timedelta | None:
    if older_than is None:
        return None
    age: timedelta | None
    try:
        age = older_than if isinstance(older_than, timedelta) else timedelta(seconds=older_than)
    except (TypeError, ValueError, OverflowError):  # no number, NaN, or out of range
        age = None
    if age is None or age < timedelta(0):
        raise ConfigError(f"older_than is a timedelta or a number of seconds, not {older_than!r}")
    return age


def _read(kind: Kind, id: str, status: str, raw: Json) -> tuple[ListedRow | None, bool]:
    """Read a raw row as far as possible. The second value is False if a part is unreadable."""
    name = raw.get("name")
    if type(name) is not str:
        return None, False
    try:
        safe_id(id)
    except ConfigError:
        return None, False
    created_at = _NEVER
    with contextlib.suppress(MisfitError):
        created_at = moment(raw.get("created_at"), None)
    return ListedRow(kind, id, name, Status(status), created_at), created_at is not _NEVER
