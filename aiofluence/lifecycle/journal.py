"""The journal: what a session is about to deploy, on disk before it asks, so that a later run can find it.

Lines of JSON with kinds, names and ids, never a secret. It asks the service nothing and decides nothing.
The writing blocks: a few hundred bytes and one fsync, which a thread would only make later than the POST.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from ..errors import ConfigError
from ..models.instances import InstanceRef, Summary
from ..models.values import Kind
from ..protocol import safe_id

if sys.platform != "win32":
    import fcntl

log: Final = logging.getLogger("aiofluence")

INTENT: Final = "intent"
DEPLOYED: Final = "deployed"
HANDED_OVER: Final = "handed over"
ENDED: Final = "ended"
NOTHING: Final = "nothing"
"""What a line says. An intent is open until it was handed over, has ended, or came to nothing."""

DATE_SLACK: Final = timedelta(seconds=60)
"""`Date` is the gateway's clock and `created_at` the service's: they may differ by this much. Too little, and
a session would not know its own instance again, and pay for a second one."""


@attrs.define(eq=False)
class Intent:
    """One POST that was, or was about to be, sent.

    Attributes:
        run: who sent it: a number of its own for each session.
        number: which one of that session's.
        since: the service's time before it was sent, None if that was not known yet.
        id: what it made, once that is known.
        state: the last thing the journal says of it.
    """

    run: str
    number: int
    kind: Kind
    name: str
    since: datetime | None = None
    id: str | None = None
    state: str = INTENT

    @property
    def open(self) -> bool:
        """Whether it may have left something that nobody holds."""
        return self.state in (INTENT, DEPLOYED)

    def may_have_made(self, row: Summary) -> bool:
        """Whether `row` has its kind and name, and is not older."""
        same = (row.kind, row.name) == (self.kind, self.name)
        return same and (self.since is None or row.created_at >= self.since - DATE_SLACK)

    @property
    def ref(self) -> InstanceRef | None:
        """What it made, once that is known."""
        return InstanceRef(self.kind, self.id, self.name) if self.id is not None else None


class Journal:
    """One file, appended to by any number of sessions; without a path it only remembers.

    A session holds a lock on one byte, far behind the file's end, whose place is its run's number. So others
    can tell a run that still lives from one that died: the system lets go of a dead process's locks.

    Within one process locks do not tell sessions apart: let only one at a time use a file.
    """

    def __init__(self, path: str | os.PathLike[str] | None, origin: str) -> None:
        self.path: Final = None if path is None else os.fspath(path)
        self._origin = origin
        self._run = f"{secrets.randbits(48):012x}"
        self._file: int | None = None
        self._count = 0
        self._inherited: list[Intent] = []
        self._by_id: dict[str, Intent] = {}

    def open(self) -> None:
        """Open or make the file, and read what earlier runs left.

        Raises:
            ConfigError: it cannot be opened.
        """
        if self.path is None:
            return
        try:
            is_new = not os.path.exists(self.path)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _CLOSE_ON_EXEC, 0o600)
            if is_new:
                _sync_folder(os.path.dirname(os.path.abspath(self.path)))
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise OSError(0, "it is no regular file")
            _lock(self._file, self._run)
            self._inherited = self._read()
        except OSError as error:
            reason = error.strerror
            self.close()
        else:
            return
        raise ConfigError(f"the journal cannot be opened: {reason}")

    def close(self) -> None:
        """Let go of the file; what was written stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def left_behind(self) -> list[Intent]:
        """Open intents of runs that live no more, as the file is now."""
        if self._file is not None:
            self._inherited = self._read()
        return [intent for intent in self._inherited if intent.open]

    def inherited(self, kind: Kind, name: str) -> list[Intent]:
        """Open intents for that name, of runs that were dead when this session began."""
        return [
            intent for intent in self._inherited if intent.open and (intent.kind, intent.name) == (kind, name)
        ]

    def handed_over(self, kind: Kind, name: str) -> set[str]:
        """Ids of that name which earlier runs gave into somebody's hands."""
        return {
            intent.id
            for intent in self._inherited
            if intent.id and intent.state == HANDED_OVER and (intent.kind, intent.name) == (kind, name)
        }

    def intend(self, kind: Kind, name: str, since: datetime | None) -> Intent:
        """A POST is about to be sent. When this returns, it is on disk.

        Raises:
            ConfigError: it could not be written, so nothing may be sent.
        """
        self._count += 1
        intent = Intent(self._run, self._count, kind, name, since)
        about = {"kind": kind.value, "name": name, "origin": self._origin}
        try:
            self._write(intent, INTENT, about | ({"since": since.isoformat()} if since else {}))
        except OSError as error:
            reason = error.strerror
        else:
            return intent
        raise ConfigError(f"the journal cannot be written, so nothing was deployed: {reason}")

    def identify(self, intent: Intent, ref: InstanceRef) -> None:
        """What the POST made is known."""
        self._by_id[ref.id] = intent
        intent.id = ref.id
        self._note(intent, DEPLOYED, {"id": ref.id})

    def close_intent(self, intent: Intent, state: str = NOTHING) -> None:
        """The POST came to nothing, or to what `state` says."""
        if intent.open:
            self._note(intent, state)

    def hand_over(self, ref: InstanceRef) -> None:
        """The caller holds it now."""
        if intent := self._by_id.get(ref.id):
            self.close_intent(intent, HANDED_OVER)

    def take_back(self, ref: InstanceRef) -> None:
        """It is to be ended, after all: until it has, it is nobody's."""
        intent = self._by_id.get(ref.id)
        if intent is not None and not intent.open:
            self._note(intent, DEPLOYED, {"id": ref.id})

    def ended(self, ref: InstanceRef) -> None:
        """It was seen gone."""
        if intent := self._by_id.pop(ref.id, None):
            self._note(intent, ENDED)

    def inherit(self, intent: Intent) -> Intent:
        """Make an intent of an earlier run this run's own, so that no sweep takes it for abandoned.

        Raises:
            ConfigError: it could not be written.
        """
        mine = self.intend(intent.kind, intent.name, intent.since)
        if intent.ref is not None:
            self.identify(mine, intent.ref)
        self.close_intent(intent)
        return mine

    def _note(self, intent: Intent, state: str, more: dict[str, str] | None = None) -> None:
        """Write what has happened. It has happened even if that fails, and a sweep then goes by the name."""
        try:
            self._write(intent, state, more or {})
        except OSError as error:
            log.error("the journal cannot be written: %s (%s %s)", error.strerror, state, intent.name)

    def _write(self, intent: Intent, state: str, more: dict[str, str]) -> None:
        intent.state = state
        if self._file is None:
            return
        entry = {"run": intent.run, "n": intent.number, "event": state} | more
        line = json.dumps(entry).encode() + b"\n"
        size = os.lseek(self._file, 0, os.SEEK_END)
        if size and _read_from(self._file, size - 1, 1) != b"\n":
            line = b"\n" + line  # somebody died in the middle of a line: it stays alone
        # One write of a line to a file opened with O_APPEND: other processes' lines are not torn by it.
        if os.write(self._file, line) != len(line):
            raise OSError(0, "the disk is full")
        os.fsync(self._file)

    def _read(self) -> list[Intent]:
        """Intents of this origin whose runs live no more; lines that make no sense are no lines."""
        assert self._file is not None
        intents = _fold(_read_from(self._file, 0, sys.maxsize).split(b"\n"), self._origin)
        alive = {run: self._is_alive(run) for run in {intent.run for intent in intents}}
        return [intent for intent in intents if not alive[intent.run]]

    def _is_alive(self, run: str) -> bool:
        assert self._file is not None
        if run == self._run:
            return True
        try:
            _lock(self._file, run)
        except OSError:
            return True
        _unlock(self._file, run)
        return False


def _fold(lines: Iterable[bytes], origin: str) -> list[Intent]:
    intents: dict[tuple[str, int], Intent] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            run, number, event = str(entry["run"]), int(entry["n"]), entry["event"]
            if event == INTENT and entry["origin"] == origin:
                _place(run)
                since = entry.get("since")
                began = None if since is None else datetime.fromisoformat(since).astimezone(UTC)
                intents[run, number] = Intent(run, number, Kind(entry["kind"]), str(entry["name"]), began)
            elif event in (DEPLOYED, HANDED_OVER, ENDED, NOTHING) and (run, number) in intents:
                intent = intents[run, number]
                intent.id = safe_id(entry["id"]) if "id" in entry else intent.id
                intent.state = event
        except (ConfigError, KeyError, TypeError, ValueError):
            continue  # torn by a crash, or not ours
    return list(intents.values())


def _read_from(file: int, start: int, length: int) -> bytes:
    os.lseek(file, start, os.SEEK_SET)
    data = b""
    while len(data) < length and (part := os.read(file, min(2**20, length - len(data)))):
        data += part
    return data


def _place(run: str) -> int:
    """Where the lock of a run is."""
    if len(run) > 12:
        raise ValueError("no run of ours")
    return int(run, 16)


_CLOSE_ON_EXEC: Final = getattr(os, "O_CLOEXEC", 0)

if sys.platform == "win32":  # no such locks: every other run is taken for dead

    def _lock(file: int, run: str) -> None: ...
    def _unlock(file: int, run: str) -> None: ...
    def _sync_folder(path: str) -> None: ...

else:

    def _lock(file: int, run: str) -> None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(run))

    def _unlock(file: int, run: str) -> None:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, _place(run))

    def _sync_folder(path: str) -> None:
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
