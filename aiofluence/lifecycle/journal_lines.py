"""The lines of a journal: how an entry is written, and how lines of any origin are read.

One JSON object a line, with kinds, names and ids, and never a secret. A line that cannot be read costs that
line alone. Most lines are of entries that are over. They are left out unread: JSON takes ten times as long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, TypeGuard

from ..errors import ConfigError
from ..http.messages import safe_id
from ..models.values import Kind
from .intents import DEPLOYED, ENDED, HANDED_OVER, INTENT, NOTHING, Intent

LONGEST: Final = 2**16
"""Bytes of the longest line that is read."""

_EVENT: Final = b', "event": "'
_OVER: Final = frozenset((b'ended"}', b'nothing"}'))
_WHOLE_AND_OVER: Final = re.compile(
    rb'^(\{"run": "[0-9a-f]{1,12}", "n": \d{1,16}), "event": "intent"[^\n]*\n'
    rb'(?:\1, "event": "(?:deployed|handed over)"[^\n]*\n)*'
    rb'\1, "event": "(?:ended|nothing)"\}\n',
    re.MULTILINE,
)
"""An entry from its first line to its last, without another's between."""
_HEAD: Final = re.compile(rb'\{"run": "[0-9a-f]{1,12}", "n": \d{1,16}')
_HEX: Final = frozenset("0123456789abcdef")
_OTHERS: Final = 1000
_YEARS: Final = range(2000, 9000)
"""Years in which a time can be added to and subtracted from without an overflow."""


class Account:
    """The account of a session, as far as a journal may know it: it recognises its own fingerprint.

    The fingerprint is keyed with the run's random number. It reveals nothing of the API key, and two runs of
    one account do not show that they are of one account.
    """

    def __init__(self, api_key: str) -> None:
        self._secret = blake2b(
            api_key.encode(errors="replace"), digest_size=32, person=b"aiofluence"
        ).digest()

    def fingerprint(self, run: str) -> str:
        """Give the fingerprint that entries of `run` have when they are of this account."""
        return blake2b(run.encode(), key=self._secret, digest_size=16).hexdigest()


class Lines:
    """Lines of a journal by entry, without those of entries that are over. As compact as the file itself.

    Args:
        known: entries that were read before, by the beginning that all lines of one entry share.

    Attributes:
        kept: lines by that beginning.
        over: those of `known` that are over.
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
            if head not in kept and not _HEAD.fullmatch(head):  # other software's spaces, or no entry
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
            self._others.append(line)  # perhaps a later version's, so a compaction keeps it

    @property
    def size(self) -> int:
        """Bytes of a file that has these lines alone."""
        return sum(len(line) + 1 for line in self)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._others
        for lines in self.kept.values():
            yield from lines


def line_of(intent: Intent, event: str, origin: str, account: str) -> bytes:
    """Write an event. Every line but the last of an entry says all: if one is lost, the next has it, too."""
    entry: dict[str, Any] = {"run": intent.run, "n": intent.number, "event": event}
    if event not in (ENDED, NOTHING):
        entry |= {"kind": intent.kind.value, "name": intent.name, "origin": origin, "account": account}
        if intent.since is not None:
            entry["since"] = intent.since.isoformat()
        if intent.id is not None:
            entry["id"] = intent.id
    return json.dumps(entry).encode() + b"\n"


def read(intent: Intent | None, lines: Iterable[bytes], origin: str, account: Account) -> Intent | None:
    """Apply `lines`, all of one entry, to `intent`; None while no line says what was intended."""
    for line in lines:
        entry = _object(line)
        try:
            if entry is not None:
                intent = _apply(intent, entry, origin, account)
                continue
        except (ConfigError, KeyError, TypeError, ValueError, OverflowError):
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
        kind, name, since = Kind(entry["kind"]), entry["name"], _time(entry.get("since"))
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
    intent.is_garbled = False  # a later line counts more
    return intent


def _time(text: object) -> datetime | None:
    if text is None:
        return None
    if type(text) is not str:
        raise TypeError("no time")
    moment = datetime.fromisoformat(text)
    if moment.year not in _YEARS:
        raise ValueError("no time of this service")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _object(line: bytes) -> dict[str, Any] | None:
    if len(line) > LONGEST:
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if type(entry) is dict else None


def head_of(run: str, number: int) -> bytes:
    """Give the beginning that all lines of one entry share."""
    return b'{"run": "%b", "n": %d' % (run.encode(), number)


def is_run(run: object) -> TypeGuard[str]:
    """Decide if `run` is the number of a session."""
    return type(run) is str and 0 < len(run) <= 12 and _HEX.issuperset(run)


def _is_harmless(line: bytes) -> bool:
    """Decide if an unreadable line leaves its entry as it was.

    A line that ends too early was cut off by a crash, before its writer went on: it has not happened. Damage
    in the middle of a line is another matter, unless the event is legible and hands nothing over.
    """
    event = line.partition(_EVENT)[2].partition(b'"')[0]
    cut_off = not line.endswith(b"}") and line.isascii() and b"\0" not in line
    return cut_off or event in (INTENT.encode(), DEPLOYED.encode(), ENDED.encode(), NOTHING.encode())
