"""Intents, and their index: the instance of each journal entry, and whether the library may end it.

Judges data in memory. `journal` reads and writes the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

import attrs

from ..models.instances import InstanceRef
from ..models.values import Kind

INTENT: Final = "intent"
DEPLOYED: Final = "deployed"
HANDED_OVER: Final = "handed over"
ENDED: Final = "ended"
NOTHING: Final = "nothing"
"""The events of an intent. It is open until it is handed over, has ended, or has made nothing."""

DATE_SLACK: Final = timedelta(seconds=60)
"""Allowed difference between `Date`, by the gateway's clock, and `created_at`, by the service's.
If it were too small, a session would not recognise its own instance, and pay for a second one."""

SKEW: Final = timedelta(minutes=15)
"""Largest time by which a row may be older than the POST whose reply had its id."""
_DAY: Final = timedelta(days=1)
"""Largest usual error of a clock. A row that is older by less may be newer in fact."""

_Key = TypeVar("_Key")


class ListedRow(Protocol):
    """The fields that identify an instance in a LIST."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def name(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


@attrs.define(eq=False)
class Intent:
    """A POST that was, or was about to be, sent.

    Attributes:
        run: number of the session that sent it. Each session has its own.
        number: position among the intents of that session.
        kind: kind of the instance.
        name: name of the instance.
        since: the service's time before the POST. None if it was not known yet.
        id: id of the instance. None until it is known.
        state: the last event that the journal has.
        account_is_ours: the entry names this session's account. None if it names no account.
        is_garbled: a later line of this entry is unreadable: the instance may be over or a caller's.
    """

    run: str
    number: int
    kind: Kind
    name: str
    since: datetime | None = None
    id: str | None = None
    state: str = INTENT
    account_is_ours: bool | None = True
    is_garbled: bool = False

    @property
    def open(self) -> bool:
        """Return True if there may be an instance that no caller holds."""
        return self.state in (INTENT, DEPLOYED)

    @property
    def is_of_early_version(self) -> bool:
        """Return True if the entry lacks the account, as entries of early versions do."""
        return self.account_is_ours is None

    @property
    def ref(self) -> InstanceRef | None:
        """Reference of the instance. None until its id is known."""
        return InstanceRef(self.kind, self.id, self.name) if self.id is not None else None

    def may_have_made(self, row: ListedRow) -> bool:
        """Return True if `row` is an instance that this POST made: of this kind and name, and not older.

        With an id from the POST's reply, the clocks may differ by more. Without an id, the row is also at
        most a day younger: a younger row is another POST's. A POST at an unknown time proves nothing, except
        in entries of early versions, which lack the time more often.
        """
        if (row.kind, row.name) != (self.kind, self.name) or self.id not in (None, row.id):
            return False
        if self.since is None:
            return self.id is not None or self.is_of_early_version
        if self.id is not None:
            return row.created_at >= self.since - SKEW
        return self.since - DATE_SLACK <= row.created_at <= self.since + _DAY

    def looks_older(self, row: ListedRow) -> bool:
        """Return True if `row` may be this POST's although it is older by less than a day, or undated."""
        if (row.kind, row.name) != (self.kind, self.name) or self.may_have_made(row):
            return False
        if self.since is None:
            return self.id is None
        return self.since - _DAY <= row.created_at <= self.since + _DAY


class Claims:
    """Every intent that is open or handed over, found by id and by name in constant time.

    Args:
        own: number of this session's run.
        is_at_work: decides if any call of a run is in flight.
    """

    def __init__(self, own: str, is_at_work: Callable[[str], bool]) -> None:
        self._own = own
        self._is_at_work = is_at_work
        self.by_id: dict[str, list[Intent]] = {}
        self._unnamed: dict[tuple[Kind, str], list[Intent]] = {}
        """Open intents without an id."""
        self._named: dict[tuple[Kind, str], dict[str, None]] = {}
        """Ids of the intents of each name."""

    def add(self, intent: Intent) -> None:
        """Add `intent`, unless it is over or another account's."""
        if intent.account_is_ours is False:
            return
        key = (intent.kind, intent.name)
        if intent.id is not None and (intent.open or intent.state == HANDED_OVER):
            self.by_id.setdefault(intent.id, []).append(intent)
            self._named.setdefault(key, {})[intent.id] = None
        elif intent.open:
            self._unnamed.setdefault(key, []).append(intent)

    def discard(self, intent: Intent) -> None:
        """Remove `intent`. Call this before it changes, and `add` afterwards."""
        key = (intent.kind, intent.name)
        if intent.id is None:
            _remove(self._unnamed, key, intent)
        elif _remove(self.by_id, intent.id, intent) and (ids := self._named.get(key)) is not None:
            ids.pop(intent.id, None)
            if not ids:
                del self._named[key]

    def open_for(self, kind: Kind, name: str) -> Iterable[Intent]:
        """All open intents of that name, of all runs."""
        yield from self._unnamed.get((kind, name), ())
        for id in self._named.get((kind, name), ()):
            yield from (intent for intent in self.by_id[id] if intent.open)

    def is_held(self, id: str) -> bool:
        """Return True if a caller was given `id`, or another run works with it."""
        return any(map(self._holds, self.by_id.get(id, ())))

    def is_taken_over(self, id: str) -> bool:
        """Return True if another run was given the instance after this session's own last entry."""
        intents = self.by_id.get(id, ())
        own = [place for place, intent in enumerate(intents) if intent.run == self._own]
        return bool(own) and any(map(self._holds, intents[own[-1] + 1 :]))

    def owner_of(self, row: ListedRow) -> Intent | None:
        """Find the open intent that permits the library to end `row`, or return None.

        The intent is this session's own, or of an idle run of this account, and fits the row. No other entry
        may hold the row, and no run may be deploying that name at this moment.
        """
        named = self.by_id.get(row.id, ())
        if any(map(self._holds, named)):
            return None
        candidates = named or self._unnamed.get((row.kind, row.name), ())
        fitting = [intent for intent in candidates if intent.open and intent.may_have_made(row)]
        working = [intent for intent in fitting if intent.run == self._own or self._is_at_work(intent.run)]
        if any(intent.run != self._own for intent in working):
            return None  # the reply to another run's POST may be in flight
        return next((intent for intent in working or fitting if not intent.is_garbled), None)

    def _holds(self, intent: Intent) -> bool:
        if intent.state == HANDED_OVER:
            return True
        return intent.run != self._own and self._is_at_work(intent.run)


def _remove(index: dict[_Key, list[Intent]], key: _Key, intent: Intent) -> bool:
    """Remove `intent` from `index`. Return True if it was the last at its key."""
    intents = index.get(key, [])
    if intent in intents:
        intents.remove(intent)
    if intents:
        return False
    index.pop(key, None)
    return True
