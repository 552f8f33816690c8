"""The file of a journal: safe opening, appending, locks, and rewriting without finished entries.

`journal_entries` has the format of the lines. The locks are in a second file, `<journal>.lock`, for two
reasons: a rewritten journal is a new file, and POSIX locks end when any code in the process closes the
locked file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Final
from weakref import WeakSet

from .file_locks import PATIENCE, SEES_OWN_PROCESS, is_locked, try_lock, unlock, wait_for_lock

SLICE: Final = 2**20
"""Bytes that are read at a time: usually 10 ms of work, at most 40."""

_TURN: Final = 0
"""The byte to lock for a turn at the journal: shared to append, exclusive to rewrite."""


class JournalFile:
    """An open journal, and the run's lock, which shows other sessions that this run is at work.

    Args:
        path: path of the file, which may not exist yet.
        run: number of the session's run, of at most twelve hexadecimal digits.

    Raises:
        OSError: the file cannot be opened, or is not safe to trust. `strerror` has the reason.
    """

    def __init__(self, path: str, run: str) -> None:
        self.path: Final = os.path.abspath(path)
        self._run = run
        self._file = self._lock = -1
        self._is_at_work = True
        self._is_locked = False
        self._has_turn = False
        _check_folder(os.path.dirname(self.path))
        try:
            self._file = _open(self.path)
            self._lock = _open(self.path + ".lock")
            self._take_lock()
        except OSError:
            self.close()
            raise
        _OPEN.add(self)

    def close(self) -> None:
        """Close the file, and release the run's lock."""
        _OPEN.discard(self)
        if self._is_locked:
            unlock(self._lock, _place(self._run))
        self.abandon()
        _lock_again()

    def abandon(self) -> None:
        """Close the file without unlocking: in a forked child, the lock stays the parent's."""
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)
        self._file = self._lock = -1
        self._is_at_work = self._is_locked = False

    def be_at_work(self, is_at_work: bool) -> None:
        """Take or release the run's lock.

        If the lock cannot be taken, `renew` tries again, and nothing is written before.
        """
        if self._lock < 0 or is_at_work == self._is_at_work == self._is_locked:
            return
        self._is_at_work = is_at_work
        if is_at_work:
            with contextlib.suppress(OSError):
                self._renew_lock()
        elif self._is_locked:
            unlock(self._lock, _place(self._run))
            self._is_locked = False

    def is_at_work(self, run: str) -> bool:
        """Return True if that run holds its lock."""
        for journal in _OPEN:  # some systems do not show a process its own locks
            if journal._run == run:
                return journal._is_at_work
        try:
            return is_locked(self._lock, _place(run))
        except OSError:
            return True  # no evidence that the run is dead

    @property
    def size(self) -> int:
        """Present size of the file, in bytes."""
        return os.fstat(self._file).st_size

    def renew(self) -> bool:
        """Open the file again if another file is at its path. Return True in that case.

        Does the same for the lock file.

        Raises:
            OSError: the file cannot be opened.
        """
        if self._file < 0:
            raise OSError(errno.EBADF, "the session has left it")
        self._renew_lock()
        if _is_at(self._file, self.path):
            return False
        file = _open(self.path)
        os.close(self._file)
        self._file = file
        return True

    def _renew_lock(self) -> None:
        """Open the lock file again if it was deleted, and take the run's lock if the run is at work."""
        if not _is_at(self._lock, self.path + ".lock"):  # other runs look up the lock in the new file
            lock = _open(self.path + ".lock")
            os.close(self._lock)
            self._lock, self._is_locked = lock, False
            _lock_again()
        if self._is_at_work and not self._is_locked:
            self._take_lock()

    def _take_lock(self) -> None:
        # On some systems, a check of a lock takes it for a moment. Another process may check right now.
        if not wait_for_lock(self._lock, _place(self._run)):
            raise OSError(errno.EAGAIN, "another session has the same number")
        self._is_locked = True

    @contextlib.contextmanager
    def turn(self, *, alone: bool = False, patience: int = PATIENCE) -> Iterator[None]:
        """Keep other processes from rewriting the journal and, if `alone`, from appending to it.

        A turn within a turn has no effect.

        Raises:
            OSError: another process has held its turn for longer than `patience` milliseconds.
        """
        if self._has_turn:
            yield
            return
        if self._lock < 0:
            raise OSError(errno.EBADF, "the session has left it")
        if not wait_for_lock(self._lock, _TURN, shared=not alone, patience=patience):
            raise OSError(errno.EAGAIN, "another process keeps it locked")
        lock, self._has_turn = self._lock, True
        try:
            yield
        finally:
            self._has_turn = False
            if lock == self._lock:  # otherwise the lock file was deleted, and closed
                unlock(lock, _TURN)

    def append(self, data: bytes) -> None:
        """Write lines to the end of the file, and to the disk. Call `turn` and `renew` before.

        Raises:
            OSError: the lines are not all written. A part may be.
        """
        size = self.size
        if size and self._read(size - 1, 1) != b"\n":
            data = b"\n" + data  # the last line was cut off: it stays on its own line
        # One write to a file opened with O_APPEND does not tear other processes' lines.
        if os.write(self._file, data) != len(data):
            raise OSError(errno.ENOSPC, "the disk is full")
        os.fsync(self._file)

    def slices(self, start: int) -> Iterator[tuple[bytes, int]]:
        """Read the lines from byte `start` on, slice by slice, each with the place of the next unread byte.

        An incomplete last line is included. It may still grow, so the place is before that line. Of a line
        that is longer than a slice, only the end is included, which no reader takes for an entry.
        """
        end = self.size
        while start < end and (data := self._read(start, SLICE)):
            whole = data.rfind(b"\n") + 1
            if not whole and len(data) < SLICE:
                yield data, start
                return
            start += whole or SLICE
            if whole:
                yield data[:whole], start

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replace the file with one that has `lines` alone. Call this in a `turn` with `alone`.

        A crash at any moment leaves the old file or the new one, both whole.

        Raises:
            OSError: the old file stays.
        """
        fresh = self.path + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)  # left by a run that died here
        file = os.open(fresh, _FLAGS | os.O_EXCL, 0o600)
        try:
            if sys.platform != "win32":
                os.fchmod(file, stat.S_IMODE(os.fstat(self._file).st_mode))
            for data in _joined(lines):
                if os.write(file, data) != len(data):
                    raise OSError(errno.ENOSPC, "the disk is full")
            os.fsync(file)
            os.replace(fresh, self.path)
        except BaseException:
            os.close(file)
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
        os.close(self._file)
        self._file = file
        _sync_folder(self.path)

    def _read(self, start: int, length: int) -> bytes:
        os.lseek(self._file, start, os.SEEK_SET)
        return os.read(self._file, length)


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines, so that one write has many."""
    data = bytearray()
    for line in lines:
        data += line + b"\n"
        if len(data) >= SLICE:
            yield bytes(data)
            data.clear()
    yield bytes(data)


_FLAGS: Final = (
    os.O_RDWR
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_CLOEXEC", 0)  # an executed child must not keep the lock
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def _open(path: str) -> int:
    """Open or create a file that only its owner can have written.

    Raises:
        OSError: the file is of another sort. `strerror` has the reason and the remedy.
    """
    is_new = not os.path.lexists(path)
    try:
        file = os.open(path, _FLAGS, 0o600)
    except OSError:
        if os.path.islink(path):
            raise OSError(errno.ELOOP, f"{path} is a symbolic link; name the file itself") from None
        raise
    about = os.fstat(file)
    problem = None
    if not stat.S_ISREG(about.st_mode):
        problem = f"{path} is no regular file"
    elif sys.platform != "win32" and about.st_uid != os.geteuid():
        problem = f"{path} belongs to another user, who could make a sweep end anything; take another file"
    elif sys.platform != "win32" and about.st_mode & 0o022:
        problem = f"{path} can be written by other users, who could make a sweep end anything; chmod go-w it"
    if problem is not None:
        os.close(file)
        raise OSError(errno.EPERM, problem)
    if is_new:
        _sync_folder(path)
    return file


def _check_folder(folder: str) -> None:
    if sys.platform != "win32":
        mode = os.stat(folder).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise OSError(errno.EPERM, f"in {folder} every user can replace it; chmod o-w the folder, or +t")


def _is_at(file: int, path: str) -> bool:
    """Return True if the open `file` is the file at `path`."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def _place(run: str) -> int:
    """The byte that a run locks."""
    return int(run, 16) + 1


_OPEN: Final[WeakSet[JournalFile]] = WeakSet()
"""Open journals of this process. Needed on systems that do not show a process its own locks, and for forked
children: a lock that a child kept would outlive the parent."""


def _leave_to_parent() -> None:
    for journal in tuple(_OPEN):
        journal.abandon()
    _OPEN.clear()  # the child finds out by locks alone if the parent is at work


def _lock_again() -> None:
    """Lock every run again: POSIX locks end when the process closes the file anywhere."""
    if not SEES_OWN_PROCESS:
        for journal in _OPEN:
            if journal._is_locked:
                try_lock(journal._lock, _place(journal._run))


def _sync_folder(path: str) -> None:
    if sys.platform != "win32":
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_leave_to_parent)
