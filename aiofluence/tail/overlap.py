"""The place where a reply joins the known lines, computed from hashes alone.

Pure and without state. `pod_log` keeps the hashes and decides what follows from a `Place`.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import islice, pairwise

import attrs

__all__ = ["Fit", "Hashes", "Place", "certain", "contains", "fits", "hashes", "last_period", "locate"]

Hashes = array  # of "q": eight bytes per line

ENOUGH = 64.0
"""Bits of information that a block of lines must carry before a recurrence may be ruled out."""

CHANCE = 32.0
"""Bits up to which a second, shorter overlap counts as chance. Above, the log is known to repeat itself."""

SAMPLE = 1024
"""Number of lines from which the frequency of a line is estimated."""


def hashes(lines: Sequence[str]) -> Hashes[int]:
    """Return one 64-bit hash per line. Python's hash has a new key per process, so none can be forged."""
    return array("q", map(hash, lines))


class Fit(Enum):
    """The certainty with which a reply joins the known lines."""

    SURE = "only this number of new lines is plausible"
    REPEATS = "several numbers of new lines fit, because the log repeats itself"
    WEAK = "one number fits, but the lines are too few or too common to rule out chance"
    STALE = "the reply is older than the known lines"
    NONE = "no number fits"


@attrs.frozen
class Place:
    """The place where a reply joins the known lines.

    Attributes:
        fit: certainty of the place.
        new: smallest number of lines at the end of the reply that are new and fit.
        most: largest number that fits.
    """

    fit: Fit
    new: int
    most: int = 0


def fits(known: Hashes[int], seen: Hashes[int]) -> list[int]:
    """Return each d, smallest first, for which `known` and `seen` without its last d lines end alike.

    At least one line must be equal, so d is less than `len(seen)`. Takes O(n) by one Z array, from the back.
    """
    length = len(seen)
    size = min(len(known), length)
    if not size:
        return []
    text: list[int | None] = [*reversed(known[-size:]), None, *reversed(seen)]
    alike = _prefixes(text)[size + 1 :]
    return [d for d, common in enumerate(alike) if common >= size or common == length - d]


def _prefixes(text: list[int | None]) -> list[int]:
    """Return the Z array: for each index, how many elements from there equal the beginning of `text`."""
    end = len(text)
    z = [0] * end
    first = text[0]
    left = right = 0
    for here in range(1, end):
        common = 0
        if here < right:
            common = z[here - left]
            if common < right - here:
                z[here] = common
                continue
            common = right - here
        elif text[here] != first:
            continue
        while here + common < end and text[common] == text[here + common]:
            common += 1
        z[here] = common
        left, right = here, here + common
    return z


def last_period(lines: Hashes[int]) -> int:
    """Return the smallest number of lines that occur twice in succession at the end; 0 if none do."""
    alike = _prefixes([*reversed(lines)]) if lines else []
    return next((period for period, common in enumerate(alike) if 0 < period <= common), 0)


def certain(lines: Hashes[int]) -> int:
    """Return how many of the last lines suffice to recognise them for certain; 0 if all are too few."""
    back = _Surprise(lines).back(lines)
    while back and _twice(lines[-back:], lines):
        back = min(len(lines), 2 * back) if back < len(lines) else 0
    return back


def locate(
    known: Hashes[int], unbroken: int, seen: Hashes[int], end: int | None = None, *, whole: bool = False
) -> Place:
    """Return where `seen` joins `known`. Only the last `unbroken` lines of `known` are free of gaps.

    Args:
        known: hashes of the known lines.
        unbroken: number of lines at the end of `known` without a gap between them.
        seen: hashes of the reply.
        end: number of lines of the log up to the last known line. A reply shows no more lines before it.
        whole: the reply is the whole log. It must contain all known lines, unless the log began anew.

    The smallest number of new lines that fits is right, unless some block of lines was written twice. It is
    sure if that block carries `ENOUGH` bits, was never seen twice, and nothing else suggests repeats.
    """
    length = len(seen)
    fresh = known[-unbroken:] if unbroken else known[:0]
    found = fits(fresh, seen)
    possible = found if end is None or whole else [d for d in found if length - d <= end]
    place = _judge(known, len(fresh), seen, possible or found, whole) if found else Place(Fit.NONE, length)
    if found and not possible and place.fit is Fit.SURE:
        place = attrs.evolve(place, fit=Fit.WEAK)
    if place.fit in (Fit.SURE, Fit.REPEATS):
        return place
    older = fits(seen, known)
    if older and (older[0] > 0 or not unbroken):
        end = len(known) - older[0]
        block = known[max(0, end - length) : end]
        if _Surprise(known).bits(block) >= ENOUGH and not _twice(block, known):
            return Place(Fit.STALE, 0)
    return place


def _judge(known: Hashes[int], unbroken: int, seen: Hashes[int], found: list[int], whole: bool) -> Place:
    length = len(seen)
    new = found[0]
    overlap = min(unbroken, length - new)
    period = found[1] - new if len(found) > 1 else 0
    joined = known + seen[length - new :]
    surprise = _Surprise(joined)
    # If this is wrong, this block was written twice: one period, or the overlap if there is no second fit.
    block = known[-min(period or overlap, overlap) :]
    unique = surprise.bits(block) >= ENOUGH and not _twice(block, joined) and not _twice(block, seen)
    if not period:
        if whole and overlap == unbroken and _Surprise(known).bits(block) >= CHANCE:
            unique = True
        return Place(Fit.SURE if unique else Fit.WEAK, new, new)
    second = min(unbroken, length - found[1])
    if unique and _Surprise(known + seen, newest=0).bits(known[-second:]) <= CHANCE:
        return Place(Fit.SURE, new)
    return Place(Fit.REPEATS, new, found[-1])


def contains(lines: Hashes[int], block: Hashes[int]) -> bool:
    """Return True if `block` occurs in `lines`."""
    return next(_places(block, lines), None) is not None


def _twice(block: Hashes[int], lines: Hashes[int]) -> bool:
    """Return True if `block` occurs at two places in `lines`."""
    return len(list(islice(_places(block, lines), 2))) == 2


def _places(block: Hashes[int], lines: Hashes[int]) -> Iterator[int]:
    """Yield the offsets of `block` in `lines`, in bytes."""
    needle, hay = block.tobytes(), lines.tobytes()
    at = hay.find(needle)
    while at >= 0:
        if at % block.itemsize == 0:
            yield at
        at = hay.find(needle, at + 1)


class _Surprise:
    """The information of lines, each given the line before. Lines of a log that repeats itself carry none."""

    def __init__(self, lines: Hashes[int], newest: int = SAMPLE) -> None:
        sample = lines[-newest:]  # 0: all of them
        self._total = len(sample)
        self._counts = Counter(sample)
        self._pairs = Counter(pairwise(sample))

    def bits(self, block: Hashes[int]) -> float:
        """Return the information in `block` in bits. Counting stops at `ENOUGH`."""
        found = 0.0
        before: int | None = None
        for line in block:
            found += self._of(line, before)
            if found >= ENOUGH:
                break
            before = line
        return found

    def back(self, lines: Hashes[int]) -> int:
        """Return how many of the last lines carry `ENOUGH` bits; 0 if all lines carry fewer."""
        found = 0.0
        for back, (line, before) in enumerate(pairwise(reversed(lines)), 1):
            found += self._of(line, before)
            if found >= ENOUGH:
                return back
        return 0

    def _of(self, line: int, before: int | None) -> float:
        together = 0 if before is None else self._pairs[before, line]
        if before is not None and together > 1:
            return math.log2(self._counts[before] / together)
        return math.log2(self._total / max(1, self._counts[line]))
