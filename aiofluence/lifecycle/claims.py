"""The owner of each instance, by all entries of a journal, and whether the library may end the instance.

Judges data in memory. `journal` reads and writes the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from ..models.values import Kind
from .journal_entries import HANDED_OVER, Account, Intent, Lines, ListedRow, head_of, read

_Key = TypeVar("_Key")


class Claims:
    """Every intent of any run that is open or handed over, found by id and by name in constant time.

    Args:
        own: number of this session's run.
        origin: URL of the service.
        account: account of this session.
        is_at_work: decides if any call of a run is in flight.
    """

    def __init__(self, own: str, origin: str, account: Account, is_at_work: Callable[[str], bool]) -> None:
        self._own = own
        self._origin = origin
        self._account = account
        self._is_at_work = is_at_work
        self._others: dict[bytes, Intent] = {}
        """Entries of other runs, by the prefix of their lines."""
        self.by_id: dict[str, list[Intent]] = {}
        self._unnamed: dict[tuple[Kind, str], list[Intent]] = {}
        """Open intents without an id."""
        self._named: dict[tuple[Kind, str], dict[str, None]] = {}
        """Ids of the intents of each name."""

    # Other runs

    @property
    def known(self) -> Collection[bytes]:
        """Prefixes of the lines of other runs' entries."""
        return self._others

    @property
    def foreign(self) -> int:
        """Number of open entries of another account or another service."""
        return sum(intent.open and intent.account_is_ours is False for intent in self._others.values())

    def left_behind(self) -> list[Intent]:
        """List the open entries of this account whose runs are not at work."""
        works: dict[str, bool] = {}
        left = []
        for intent in self._others.values():
            if intent.open and intent.account_is_ours is not False:
                if intent.run not in works:
                    works[intent.run] = self._is_at_work(intent.run)
                if not works[intent.run]:
                    left.append(intent)
        return left

    def now(self, intent: Intent) -> Intent | None:
        """Return the entry as last read. None if it is over. A rewritten file makes new objects."""
        return self._others.get(head_of(intent.run, intent.number))

    def learn_all(self, lines: Lines) -> None:
        """Read lines of any entries."""
        for head in lines.over:
            self.learn(head, None)
        for head, of_one in lines.kept.items():
            self.learn(head, of_one)

    def learn(self, head: bytes, lines: list[bytes] | None) -> None:
        """Read lines of one entry. None as `lines` if the entry is over."""
        if head.startswith(head_of(self._own)):
            return
        intent = self._others.pop(head, None)
        if intent is not None:
            self.discard(intent)
        if lines is not None:
            intent = read(intent, lines, self._origin, self._account)
            if intent is not None and (intent.open or intent.state == HANDED_OVER):
                self._others[head] = intent
                self.add(intent)

    def forget(self) -> None:
        """Forget all entries: the file is read again from its start."""
        for intent in self._others.values():
            self.discard(intent)
        self._others.clear()

    # The index

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

    def is_unclaimed(self, id: str) -> bool:
        """Return True if the entries show that `id` was deployed for a caller who did not receive it."""
        intents = self.by_id.get(id, ())
        return bool(intents) and all(intent.open for intent in intents)

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
