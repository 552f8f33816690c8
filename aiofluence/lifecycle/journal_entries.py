"""The entries of a journal: a POST each (`Intent`), and the lines that record it.

One JSON object per line, with kinds, names and ids, but no secret. An unreadable line costs that line alone.
Most lines are of finished entries. Those are skipped without JSON, which takes ten times as long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, TypeGuard

import attrs

from ..errors import ConfigError
from ..http.messages import safe_id
from ..http.readers import MisfitError, moment
from ..models.instances import InstanceRef
from ..models.values import Kind, Status

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
LARGEST_ERROR: Final = timedelta(days=1)
"""Largest usual error of a clock. A row that is older by less may be newer in fact."""

LONGEST: Final = 2**16
"""Length of the longest line that is read, in bytes."""

_EVENT: Final = b', "event": "'
_OVER: Final = frozenset((b'ended"}', b'nothing"}'))
_WHOLE_AND_OVER: Final = re.compile(
    rb'^(\{"run": "[0-9a-f]{1,12}", "n": \d{1,16}), "event": "intent"[^\n]*\n'
    rb'(?:\1, "event": "(?:deployed|handed over)"[^\n]*\n)*'
    rb'\1, "event": "(?:ended|nothing)"\}\n',
    re.MULTILINE,
)
"""A finished entry from first to last line, without another entry's lines between them."""
_HEAD: Final = re.compile(rb'\{"run": "[0-9a-f]{1,12}", "n": \d{1,16}')
_HEX: Final = frozenset("0123456789abcdef")
_OTHERS: Final = 1000


@attrs.frozen
class ListedRow:
    """The fields of a row that a sweep needs. A fault in another field does not hide the row."""

    kind: Kind
    id: str
    name: str
    status: Status
    created_at: datetime

    @property
    def ref(self) -> InstanceRef:
        return InstanceRef(self.kind, self.id, self.name)


@attrs.define(eq=False)
class Intent:
    """A POST that was, or was about to be, sent.

    Attributes:
        run: number of the session that sent it. Each session has its own.
        number: position among the intents of that session.
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
        return self.since - DATE_SLACK <= row.created_at <= self.since + LARGEST_ERROR

    def looks_older(self, row: ListedRow) -> bool:
        """Return True if `row` may be this POST's although it is older by less than a day, or undated."""
        if (row.kind, row.name) != (self.kind, self.name) or self.may_have_made(row):
            return False
        if self.since is None:
            return self.id is None
        return self.since - LARGEST_ERROR <= row.created_at <= self.since + LARGEST_ERROR


class Account:
    """The account of a session, which recognises its own fingerprint.

    The fingerprint is keyed with the run's random number. It reveals nothing of the API key, and does not
    show that two runs are of one account.
    """

    def __init__(self, api_key: str) -> None:
        self._secret = blake2b(
            api_key.encode(errors="replace"), digest_size=32, person=b"aiofluence"
        ).digest()

    def fingerprint(self, run: str) -> str:
        """Return the fingerprint that this account has in entries of `run`."""
        return blake2b(run.encode(), key=self._secret, digest_size=16).hexdigest()


class Lines:
    """Lines of a journal by entry, without finished entries. As compact as the file itself.

    Args:
        known: entries that were read before, by the prefix that all lines of an entry share.

    Attributes:
        kept: lines by that prefix.
        over: those of `known` that are finished.
    """

    def __init__(self, known: Collection[bytes] = ()) -> None:
        self.kept: dict[bytes, list[bytes]] = {}
        self.over: set[bytes] = set()
        self._known = known
        self._others: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Sort the lines in `data` by entry."""
        kept = self.kept
        if not self._known:
            data = _WHOLE_AND_OVER.sub(b"", data)
        for line in data.split(b"\n"):
            head, _, rest = line.partition(_EVENT)
            if head not in kept and not _HEAD.fullmatch(head):  # spaced by other software, or no entry
                self._add_unusual(line)
            elif rest in _OVER:
                kept.pop(head, None)
                if head in self._known:
                    self.over.add(head)
            elif len(line) <= LONGEST:
                kept.setdefault(head, []).append(line)

    def _add_unusual(self, line: bytes) -> None:
        entry = _object(line)
        if entry is None:
            return
        run, number = entry.get("run"), entry.get("n")
        if is_run(run) and type(number) is int and 0 <= number < 2**53 and "event" in entry:
            self.kept.setdefault(head_of(run, number), []).append(line)
        elif len(self._others) < _OTHERS:
            self._others.append(line)  # perhaps a later version's: a compaction keeps it

    @property
    def size(self) -> int:
        """Size of a file that has these lines alone, in bytes."""
        return sum(len(line) + 1 for line in self)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._others
        for lines in self.kept.values():
            yield from lines


def line_of(intent: Intent, event: str, origin: str, account: str) -> bytes:
    """Write an event. All lines but an entry's last are complete, so that one lost line loses nothing."""
    entry: dict[str, Any] = {"run": intent.run, "n": intent.number, "event": event}
    if event not in (ENDED, NOTHING):
        entry |= {"kind": intent.kind.value, "name": intent.name, "origin": origin, "account": account}
        if intent.since is not None:
            entry["since"] = intent.since.isoformat()
        if intent.id is not None:
            entry["id"] = intent.id
    return json.dumps(entry).encode() + b"\n"


def read(intent: Intent | None, lines: Iterable[bytes], origin: str, account: Account) -> Intent | None:
    """Apply `lines`, all of one entry, to `intent`. None until a line has the intended kind and name."""
    for line in lines:
        entry = _object(line)
        try:
            if entry is not None:
                intent = _apply(intent, entry, origin, account)
                continue
        except (ConfigError, MisfitError, KeyError, TypeError, ValueError):
            pass
        if intent is not None and (entry is not None or not _is_harmless(line)):
            intent.is_garbled = True
    return intent


def _apply(intent: Intent | None, entry: dict[str, Any], origin: str, account: Account) -> Intent | None:
    run, number, event = entry["run"], entry["n"], entry["event"]
    if event not in (INTENT, DEPLOYED, HANDED_OVER, ENDED, NOTHING):
        raise ValueError("an event that is not known")
    id = safe_id(entry["id"]) if "id" in entry else None
    if intent is None:
        if "kind" not in entry:
            return None
        kind, name = Kind(entry["kind"]), entry["name"]
        since = None if entry.get("since") is None else moment(entry["since"], None)
        if type(name) is not str or not is_run(run) or type(number) is not int:
            raise TypeError("no entry of a journal")
        theirs = entry.get("account")
        ours = None if theirs is None else theirs == account.fingerprint(run)
        intent = Intent(
            run, number, kind, name, since, account_is_ours=ours if entry["origin"] == origin else False
        )
    if (run, number) != (intent.run, intent.number):
        raise ValueError("another entry's line")
    intent.id = id or intent.id
    intent.state = event
    intent.is_garbled = False  # a later line takes precedence
    return intent


def _object(line: bytes) -> dict[str, Any] | None:
    if len(line) > LONGEST:
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if type(entry) is dict else None


def head_of(run: str, number: int | None = None) -> bytes:
    """Return the prefix that all lines of an entry, or of a run, share."""
    return b'{"run": "%b"' % run.encode() + (b"" if number is None else b', "n": %d' % number)


def is_run(run: object) -> TypeGuard[str]:
    """Return True if `run` is the number of a session."""
    return type(run) is str and 0 < len(run) <= 12 and _HEX.issuperset(run)


def _is_harmless(line: bytes) -> bool:
    """Return True if an unreadable line does not change the state of its entry.

    A line that ends too early was cut off by a crash of its writer, so that its event did not happen. Damage
    within a line may hide a hand-over, unless the event is legible and is no hand-over.
    """
    event = line.partition(_EVENT)[2].partition(b'"')[0]
    cut_off = not line.endswith(b"}") and line.isascii() and b"\0" not in line
    return cut_off or event in (INTENT.encode(), DEPLOYED.encode(), ENDED.encode(), NOTHING.encode())
