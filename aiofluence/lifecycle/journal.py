"""The journal: every deploy of a session, on disk before its POST, so that a later run can find the instance.

It sends no requests. `journal_file` has the file and the locks, `journal_entries` the format. `claims` finds
the owner of an instance. Writing blocks, for a few hundred bytes and one fsync: the POST must wait for it,
in a thread as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from datetime import datetime
from typing import Final
from weakref import WeakSet

from ..background import in_turns
from ..errors import ConfigError
from ..models.instances import InstanceRef
from ..models.values import Kind
from .claims import Claims
from .journal_entries import (
    DEPLOYED,
    ENDED,
    HANDED_OVER,
    INTENT,
    NOTHING,
    Account,
    Intent,
    Lines,
    line_of,
)
from .journal_file import JournalFile

log: Final = logging.getLogger("aiofluence")

_REMEMBERED: Final = 10_000
"""Handed-over instances of this session that stay in memory. The file has them all."""
_AGAIN: Final = 5.0
"""Seconds until the next attempt to write late notes."""
_SMALL: Final = 2**18
"""Size in bytes up to which a journal needs no compaction."""


class Journal:
    """A file to which any number of sessions append. Without a path, the journal is in memory only.

    A session holds a lock while any of its calls is in flight, which distinguishes its open entries from
    abandoned ones: see `be_at_work`.

    Args:
        path: path of the file. None for no file.
        origin: URL of the service. Entries of another service are ignored.
        api_key: key of the account. Entries of another account are ignored. Only a hash is kept.
    """

    def __init__(self, path: str | os.PathLike[str] | None, origin: str, api_key: str = "") -> None:
        self.path: Final = None if path is None else os.fspath(path)
        self._origin = origin
        self._run = f"{secrets.randbits(48):012x}"
        account = Account(api_key)
        self._fingerprint = account.fingerprint(self._run)
        self._file: JournalFile | None = None
        self._count = 0
        self._claims = Claims(self._run, origin, account, self._is_at_work)
        self._own: dict[Intent, None] = {}
        """Open intents of this run."""
        self._handed_over: dict[Intent, None] = {}
        """Intents of this run that were handed over, oldest first."""
        self.absent: WeakSet[Intent] = WeakSet()
        """Other runs' open intents for which a sweep of this session found no instance."""
        self._left: set[tuple[str, int]] = set()
        """Run and number of each entry that was left behind when this session began."""
        self._place = 0
        """Byte of the file from which on other runs' entries are unread."""
        self._compact_at = _SMALL
        self._late: list[tuple[str, bytes]] = []
        """Names and lines of notes that could not be written, as on a full disk, in the order of the file."""
        self._again: asyncio.TimerHandle | None = None
        self._works = True

    async def open(self) -> None:
        """Open or create the file, read other runs' entries, and remove finished entries.

        Raises:
            ConfigError: the file cannot be opened, or is not safe to trust.
        """
        if self.path is None:
            return
        try:
            self._file = JournalFile(self.path, self._run)
            lines = Lines()
            for part, place in self._file.slices(0):
                lines.add(part)
                self._place = place
                await asyncio.sleep(0)
            self._compact(lines)
            async for head, of_one in in_turns(lines.kept.items()):
                self._claims.learn(head, of_one)
            self._catch_up()
            self._left = {(intent.run, intent.number) for intent in self._claims.left_behind()}
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | ValueError):  # a path with a NUL is a ValueError
                reason = getattr(error, "strerror", error)
                raise ConfigError(f"the journal cannot be opened: {reason}. Nothing was sent") from error
            raise

    def close(self) -> None:
        """Write the notes that could not be written before, and close the file."""
        if self._again is not None:
            self._again.cancel()
        if self._file is None:
            return
        try:
            self._append(b"")
        except OSError as error:
            log.error(
                "the journal could not be written to its end (%s). A sweep may end running instances: %s",
                error.strerror,
                ", ".join(dict.fromkeys(name for name, _ in self._late)),
            )
        self._file.close()
        self._file = None

    def be_at_work(self, is_at_work: bool) -> None:
        """Take the lock that protects this run's open entries, or release it if nothing is in flight.

        Instances that were handed over are protected by their entries. Until a failed note of a hand-over is
        written, the lock is kept.
        """
        self._works = is_at_work
        if self._file is not None:
            self._file.be_at_work(is_at_work or bool(self._late))

    # --- other runs' entries, and the owner of an instance --------------------------------------------------

    @property
    def claims(self) -> Claims:
        """The claims of all runs to instances, by the file as it is now."""
        self._catch_up()
        return self._claims

    def inherited(self, kind: Kind, name: str) -> list[Intent]:
        """List the open intents for that name that were left when this session began, and still are."""
        return [
            intent
            for intent in self.claims.open_for(kind, name)
            if (intent.run, intent.number) in self._left
            and not intent.is_garbled
            and not self._is_at_work(intent.run)
        ]

    # --- entries of this run --------------------------------------------------------------------------------

    def intend(self, kind: Kind, name: str, since: datetime | None) -> Intent:
        """Note that a POST is about to be sent. On return, the note is on disk.

        Raises:
            ConfigError: the note could not be written, so nothing may be sent.
        """
        self._count += 1
        intent = Intent(self._run, self._count, kind, name, since)
        try:
            self._append(self._line(intent, INTENT))
        except OSError as error:
            why = error.strerror
            raise ConfigError(f"the journal cannot be written, so nothing was deployed: {why}") from error
        self._remember(intent)
        return intent

    def identify(self, intent: Intent, ref: InstanceRef) -> None:
        """Note the instance that the POST has made."""
        self._note(intent, DEPLOYED, ref.id)

    def close_intent(self, intent: Intent, state: str = NOTHING) -> None:
        """Note that the POST has made nothing, or the given `state`."""
        if intent.open:
            self._note(intent, state)

    def hand_over(self, ref: InstanceRef) -> None:
        """Note that the caller holds `ref` now."""
        for intent in self._of_own(ref):
            self.close_intent(intent, HANDED_OVER)

    def take_back(self, ref: InstanceRef) -> None:
        """Note that this session ends `ref` after all. Until the end, no caller holds it."""
        self._catch_up()  # entries read after this are later than the note
        for intent in self._of_own(ref):
            self._note(intent, DEPLOYED)

    def is_over(self, id: str) -> None:
        """Note that the instance with this id is over, in every entry that names it."""
        for intent in tuple(self._claims.by_id.get(id, ())):
            self._note(intent, ENDED)

    def inherit(self, intent: Intent, seen: InstanceRef | None = None) -> Intent | None:
        """Turn an intent of another run into this run's own, so that no sweep takes it for abandoned.

        Returns None if that run is at work again, or has finished the entry. An entry that names no account
        also stays open, for runs of its account, unless this account has shown the instance: `seen`.

        Raises:
            ConfigError: the note could not be written.
        """
        with self._alone():
            left = self._as_left(intent)
            if left is None:
                return None
            mine = self.intend(left.kind, left.name, left.since)
            ref = seen or left.ref
            if ref is not None:
                self.identify(mine, ref)
            if left.account_is_ours or seen is not None:
                self.close_intent(left)
            else:
                self._claims.discard(left)
        return mine

    def close_left(self, intent: Intent, state: str) -> bool:
        """Note the new `state` of another run's intent. Return False if the intent is not left behind."""
        with self._alone():
            left = self._as_left(intent)
            if left is not None:
                self.close_intent(left, state)
            return left is not None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other runs from writing: their earlier notes are read, their later notes take precedence."""
        with contextlib.ExitStack() as stack:
            if self._file is not None:
                with contextlib.suppress(OSError):  # without a lock, another run may write at the same time
                    stack.enter_context(self._file.turn(alone=True))
                self._catch_up()
            yield

    def _as_left(self, intent: Intent) -> Intent | None:
        """Return the entry as it is now, or None if it is no longer left behind."""
        left = self._claims.now(intent)
        return left if left is not None and left.open and not self._is_at_work(left.run) else None

    # --- memory ---------------------------------------------------------------------------------------------

    def _is_at_work(self, run: str) -> bool:
        return run == self._run or (self._file is not None and self._file.is_at_work(run))

    def _of_own(self, ref: InstanceRef) -> list[Intent]:
        return [intent for intent in self._claims.by_id.get(ref.id, ()) if intent.run == self._run]

    def _remember(self, intent: Intent) -> None:
        """Index `intent` in its present state."""
        self._claims.add(intent)
        self._own.pop(intent, None)
        self._handed_over.pop(intent, None)
        if intent.open:
            self._own[intent] = None
        elif intent.state == HANDED_OVER:
            self._handed_over[intent] = None
            if len(self._handed_over) > _REMEMBERED:
                oldest = next(iter(self._handed_over))
                del self._handed_over[oldest]
                self._claims.discard(oldest)

    def _catch_up(self) -> None:
        """Read the lines that other runs have added since the last call."""
        if self._file is None:
            return
        try:
            self._renew()
            lines = self._gather(Lines(self._claims.known))
        except OSError as error:
            log.error("the journal cannot be read: %s", error.strerror)
            return
        self._claims.learn_all(lines)

    def _gather(self, lines: Lines) -> Lines:
        """Read from `_place` to the end of the file."""
        assert self._file is not None
        for part, place in self._file.slices(self._place):
            lines.add(part)
            self._place = place
        return lines

    def _renew(self) -> None:
        """Switch to the new file at the path if another run has rewritten the journal, or it was deleted."""
        assert self._file is not None
        if self._file.renew():
            self._claims.forget()
            self._place = 0
            if not self._file.size:  # deleted. A run that rewrites the file keeps this run's entries
                known = (*self._own, *self._handed_over)
                self._late[:0] = [(intent.name, self._line(intent, intent.state)) for intent in known]
                self._write_later()

    # --- writing --------------------------------------------------------------------------------------------

    def _line(self, intent: Intent, state: str) -> bytes:
        if self.path is None:
            return b""
        return line_of(intent, state, self._origin, self._fingerprint)

    def _note(self, intent: Intent, state: str, id: str | None = None) -> None:
        """Write a note. If that fails, the note is written before the next one."""
        self._claims.discard(intent)
        intent.id = id or intent.id
        intent.state = state
        self._remember(intent)
        line = self._line(intent, state)
        try:
            self._append(line)
        except OSError as error:
            log.error("the journal cannot be written: %s (%s %s)", error.strerror, state, intent.name)
            self._late.append((intent.name, line))
            self._write_later()

    def _write_later(self) -> None:
        """Write the late notes soon, even if no other note follows. Meanwhile, keep the lock."""
        self.be_at_work(self._works)
        if self._again is None and self._late:
            with contextlib.suppress(RuntimeError):  # no loop runs: the next note writes these, too
                self._again = asyncio.get_running_loop().call_later(_AGAIN, self._write_late)

    def _write_late(self) -> None:
        self._again = None
        with contextlib.suppress(OSError):
            self._append(b"")
        self._write_later()

    def _append(self, line: bytes) -> None:
        """Write `line`, after the notes that could not be written before.

        Raises:
            OSError: the line may not be on disk.
        """
        if self._file is None:
            if self.path is not None:
                raise OSError(0, "the session is not open")
            return
        if not line and not self._late:
            return
        with self._file.turn():
            self._renew()
            self._file.append(b"".join((*(late for _, late in self._late), line)))
        if self._late:
            self._late.clear()
            self.be_at_work(self._works)
        if self._file.size > self._compact_at:
            self._place = 0
            lines = self._gather(Lines(self._claims.known))
            self._compact(lines)
            self._claims.learn_all(lines)

    def _compact(self, lines: Lines) -> None:
        """Rewrite the file with `lines` alone, read up to `_place`, if that makes it much smaller.

        A failure leaves the file as it is, which is only long.
        """
        assert self._file is not None
        size = self._file.size
        self._compact_at = max(_SMALL, 2 * size)
        if size < _SMALL or 2 * lines.size > size:
            return
        try:
            with self._file.turn(alone=True, patience=1):
                if self._file.renew():  # rewritten: entries in `lines` may be finished by now
                    self._claims.forget()
                    self._place = 0
                    lines.kept.clear()
                    return
                self._gather(lines)  # lines that other runs have added meanwhile
                self._file.rewrite(lines)
                self._place = self._file.size
                self._compact_at = max(_SMALL, 2 * self._place)
        except OSError as error:
            log.debug("the journal could not be made smaller: %s", error.strerror)
