"""Locks of single bytes of a file, which end with their process: Linux, other POSIX systems, Windows.

Each lock covers one byte, which the file need not have. Independent of journals.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from typing import Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PATIENCE: Final = 2000
"""Milliseconds to wait for a lock. Rewriting a journal takes about ten."""


def wait_for_lock(file: int, place: int, *, shared: bool = False, patience: int = PATIENCE) -> bool:
    """Take the lock at byte `place`. Return False if another holds it for `patience` milliseconds."""
    while not try_lock(file, place, shared=shared):
        patience -= 1
        if patience <= 0:
            return False
        time.sleep(0.001)
    return True


if sys.platform == "win32":
    SEES_OWN_PROCESS: Final = True

    def try_lock(file: int, place: int, *, shared: bool = False) -> bool:
        """Take the lock at byte `place`. Return False if another holds it."""
        os.lseek(file, place, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(file: int, place: int) -> None:
        """Release the lock at byte `place`."""
        os.lseek(file, place, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

    def is_locked(file: int, place: int) -> bool:
        """Return True if another holds the lock at byte `place`."""
        if not try_lock(file, place):
            return True
        unlock(file, place)
        return False

else:
    # Locks of the open file, which Linux has: two sessions of one process exclude each other, too.
    _SET: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None)
    _GET: Final[int | None] = getattr(fcntl, "F_OFD_GETLK", None)
    _FORMAT: Final = "hhqqi4x"  # struct flock of Linux: type, whence, start, length, pid

    SEES_OWN_PROCESS: Final = _SET is not None
    """Two files of one process exclude each other, and closing one keeps the locks of the other."""

    def _lock_of(kind: int, place: int) -> bytes:
        return struct.pack(_FORMAT, kind, os.SEEK_SET, place, 1, 0)

    def try_lock(file: int, place: int, *, shared: bool = False) -> bool:
        """Take the lock at byte `place`. Return False if another holds it."""
        try:
            if _SET is not None:  # Linux
                fcntl.fcntl(file, _SET, _lock_of(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, place))
            else:  # macOS
                kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.lockf(file, kind | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def unlock(file: int, place: int) -> None:
        """Release the lock at byte `place`."""
        if _SET is not None:  # Linux
            fcntl.fcntl(file, _SET, _lock_of(fcntl.F_UNLCK, place))
        else:  # macOS
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    def is_locked(file: int, place: int) -> bool:
        """Return True if another holds the lock at byte `place`."""
        if _GET is None:  # macOS
            if not try_lock(file, place):
                return True
            unlock(file, place)
            return False
        found = fcntl.fcntl(file, _GET, _lock_of(fcntl.F_WRLCK, place))
        return bool(struct.unpack(_FORMAT, found)[0] != fcntl.F_UNLCK)
