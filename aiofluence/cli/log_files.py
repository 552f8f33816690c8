"""Logs of a fleet in files, one for each container. A later run continues the files of an earlier run.

A run finds the end of the file in the lines that the service still has, and writes the lines behind it. Where
that place is missing or not certain, the file gets a mark. Marks begin with `---`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiofluence

if TYPE_CHECKING:
    from ..models.instances import InstanceRef
    from ..models.logs import LogGap, LogLine

_MARK: Final = "--- "
_COMPARED: Final = 20
"""Number of lines at the end of a file by which a later run finds the place."""
_READ: Final = 65536
"""Number of bytes at the end of a file that are read for that."""
_SETTLE: Final = 1.0
"""Seconds after the first line within which the lines that the service still has arrive together."""


class LogFiles:
    """The files of several containers. Use it in a `with` block."""

    def __init__(self, directory: Path, refs: Sequence[InstanceRef]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._files = {ref.id: _LogFile(directory / f"{ref.name}.{ref.id[:8]}.log") for ref in refs}

    def __enter__(self) -> LogFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, ref: InstanceRef, line: LogLine | LogGap) -> None:
        """Write a line, or the mark of a gap."""
        self._files[ref.id].write(line)


class _LogFile:
    def __init__(self, path: Path) -> None:
        self._before = _last_lines(path)
        self._held: list[LogLine | LogGap] | None = [] if self._before else None
        self._file = path.open("ab")
        self._last = self._file.tell()
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: LogLine | LogGap) -> None:
        if self._held is None:
            self._append(line)
            return
        self._held.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SETTLE, self._join)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._join()
        self._file.close()

    def _join(self) -> None:
        """Write the lines that were held back, without those that the file has already."""
        held, self._held = self._held, None
        if not held:
            return
        texts = ["" if isinstance(line, aiofluence.LogGap) else line.text for line in held]
        size = len(self._before)
        ends = [end for end in range(size, len(texts) + 1) if texts[end - size : end] == self._before]
        if not ends:
            self._mark("a new run continues here; lines may be missing")
        elif len(ends) > 1:
            self._mark("a new run continues here; the lines repeat, so lines may be missing")
        for line in held[ends[-1] if ends else 0 :]:
            self._append(line)

    def _append(self, line: LogLine | LogGap) -> None:
        if isinstance(line, aiofluence.LogGap):
            self._mark(str(line))
            return
        if line.grown:  # the line before was its beginning
            self._file.truncate(self._last)
        self._put(line.text)

    def _mark(self, text: str) -> None:
        self._put(f"{_MARK}{text}")

    def _put(self, text: str) -> None:
        self._last = self._file.seek(0, 2)
        self._file.write(text.encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()


def _last_lines(path: Path) -> list[str]:
    """Return the last lines of a file without marks. A last line without its end was cut, and is left out."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _READ))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
    whole = lines[1 if size > _READ else 0 : -1]
    return [line for line in whole if not line.startswith(_MARK)][-_COMPARED:]
