"""The file of a journal: opened with care, appended to, locked, rewritten without what is over.

Knows nothing of the lines' meaning. The locks are in a file beside it, `<journal>.lock`, for two reasons: a
rewritten journal is another file, and POSIX locks end when any code in the process closes the locked file.
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
"""Bytes that are read at a time. 40 ms of lines at most, usually 10."""

_TURN: Final = 0
"""The byte to lock for a turn at the journal: shared to append, alone to rewrite."""


class JournalFile:
    """One open journal, and the run's lock, which shows other sessions that this run is at work.

    Args:
        path: where it is, or is to be.
        run: number of the session's run: twelve hexadecimal digits at most.

    Raises:
        OSError: it cannot be opened, or must not be trusted. `strerror` says why.
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
        """Close the file alone: in a forked child the lock stays the parent's."""
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
        """Decide if that run has its lock."""
        for journal in _OPEN:  # not by the lock: some systems do not show a process its own
            if journal._run == run:
                return journal._is_at_work
        try:
            return is_locked(self._lock, _place(run))
        except OSError:
            return True  # no evidence

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._file).st_size

    def renew(self) -> bool:
        """Open the file again if another one is in its place; True if that was so.

        The lock file, too.

        Raises:
            OSError: it cannot be opened.
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
        if not _is_at(self._lock, self.path + ".lock"):  # other runs look for this one in the next file
            lock = _open(self.path + ".lock")
            os.close(self._lock)
            self._lock, self._is_locked = lock, False
            _lock_again()
        if self._is_at_work and not self._is_locked:
            self._take_lock()

    def _take_lock(self) -> None:
        # Where looking at a lock means taking it for a moment, another process may do that right now.
        if not wait_for_lock(self._lock, _place(self._run)):
            raise OSError(errno.EAGAIN, "another session has the same number")
        self._is_locked = True

    @contextlib.contextmanager
    def turn(self, *, alone: bool = False, patience: int = PATIENCE) -> Iterator[None]:
        """Hold the journal still: nothing rewrites it meanwhile and, `alone`, nothing is appended to it.

        A turn within a turn is the outer one.

        Raises:
            OSError: another process has its turn, for longer than `patience` milliseconds.
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
            if lock == self._lock:  # else it was deleted, and closed
                unlock(lock, _TURN)

    def append(self, data: bytes) -> None:
        """Write lines to the end of the file, and to the disk. Call `turn` and `renew` before.

        Raises:
            OSError: they are not all there; a part may be.
        """
        size = self.size
        if size and self._read(size - 1, 1) != b"\n":
            data = b"\n" + data  # a line was cut off: it stays alone
        # One write to a file opened with O_APPEND: other processes' lines are not torn by it.
        if os.write(self._file, data) != len(data):
            raise OSError(errno.ENOSPC, "the disk is full")
        os.fsync(self._file)

    def slices(self, start: int) -> Iterator[tuple[bytes, int]]:
        """Read the lines from byte `start` on, a slice at a time, each with the place to read on from.

        A last line without its end is given as it is. It may still be growing, so the place is before it.
        A line that is longer than a slice is left out.
        """
        end = self.size
        while start < end:
            data = self._read(start, SLICE)
            if not data:
                return
            whole = data.rfind(b"\n") + 1
            if whole:
                start += whole
                yield data[:whole], start
            elif len(data) < SLICE:
                yield data, start
                return
            else:
                start = self._end_of_line(start + len(data))

    def _end_of_line(self, start: int) -> int:
        while data := self._read(start, SLICE):
            if end := data.find(b"\n") + 1:
                return start + end
            start += len(data)
        return start

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Put a file that has `lines` alone in this one's place. Call it in a `turn` alone.

        A crash at any moment leaves the old file or the new one, both whole.

        Raises:
            OSError: the old file stays.
        """
        fresh = self.path + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)  # of a run that died in the middle of this
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
    """Lines, many to a write."""
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
    | getattr(os, "O_CLOEXEC", 0)  # a child that is executed must not keep the lock
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def _open(path: str) -> int:
    """Open or make a file that only its owner can have written.

    Raises:
        OSError: it is something else; `strerror` says what, and what to do.
    """
    is_new = not os.path.lexists(path)
    try:
        file = os.open(path, _FLAGS, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP or os.path.islink(path):
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
    """Decide if the open `file` is the one that `path` names."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def _place(run: str) -> int:
    """The byte that a run locks."""
    return int(run, 16) + 1


_OPEN: Final[WeakSet[JournalFile]] = WeakSet()
"""In this process. Needed where locks do not show a process its own sessions, and for forked children: a lock
that they had too would outlive their parent."""


def _leave_to_parent() -> None:
    for journal in tuple(_OPEN):
        journal.abandon()
    _OPEN.clear()  # whether the parent is at work, only its locks show


def _lock_again() -> None:
    """Take every run's lock again: POSIX locks end when the process closes the file anywhere."""
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
