"""Where an answer joins the lines that are already known: the mathematics, on hashes alone.

Pure and without memory of its own: `sequence` keeps the hashes and decides what follows from a `Place`.
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

Hashes = array  # of "q": eight bytes a line

ENOUGH = 64.0
"""Bits that a block of lines must carry before its recurrence may be ruled out."""

CHANCE = 32.0
"""Bits up to which a second, shorter overlap passes for chance; beyond, the log is known to repeat itself."""

SAMPLE = 1024
"""Lines from which it is learnt how common a line is."""


def hashes(lines: Sequence[str]) -> Hashes[int]:
    """One 64-bit hash for each line: Python's own, keyed anew in each process: none can be forged."""
    return array("q", map(hash, lines))


class Fit(Enum):
    """How well an answer joins what is known."""

    SURE = "only this many new lines are plausible"
    REPEATS = "several numbers of new lines fit, for the log repeats itself"
    WEAK = "one number fits, by too few or too common lines to rule out chance"
    STALE = "the answer is older than what is known"
    NONE = "nothing fits"


@attrs.frozen
class Place:
    """Where an answer joins what is known.

    Attributes:
        fit: how sure that is.
        new: how many of the answer's last lines are new; the fewest that fit.
        most: the most that fit.
    """

    fit: Fit
    new: int
    most: int = 0


def fits(known: Hashes[int], seen: Hashes[int]) -> list[int]:
    """Every d, smallest first, for which `known` and `seen` without its last d lines end alike.

    At least one line must be alike: d is less than `len(seen)`. Takes O(n) by one Z array, from the back.
    """
    length = len(seen)
    size = min(len(known), length)
    if not size:
        return []
    text: list[int | None] = [*reversed(known[-size:]), None, *reversed(seen)]
    alike = _prefixes(text)[size + 1 :]
    return [d for d, common in enumerate(alike) if common >= size or common == length - d]


def _prefixes(text: list[int | None]) -> list[int]:
    """The Z array: for each place, how many elements from there on are as at the beginning of `text`."""
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
    """The fewest lines that stand twice, one behind the other, at the end; 0 if none do."""
    alike = _prefixes([*reversed(lines)]) if lines else []
    return next((period for period, common in enumerate(alike) if 0 < period <= common), 0)


def certain(lines: Hashes[int]) -> int:
    """How many of the last lines it takes to be sure to know them again; 0 if all are too few."""
    back = _Surprise(lines).back(lines)
    while back and _twice(lines[-back:], lines):
        back = min(len(lines), 2 * back) if back < len(lines) else 0
    return back


def locate(
    known: Hashes[int], unbroken: int, seen: Hashes[int], end: int | None = None, *, whole: bool = False
) -> Place:
    """Where `seen` joins `known`, of which only the last `unbroken` lines are without a gap.

    `end`: how many lines there were when the last known line was the last; an answer shows no more before it.
    `whole`: the answer is the whole log, so that all that is known must be in it, unless the log began anew.
    The fewest new lines that fit are the right number unless some block of lines was written twice. So they
    are sure when that block carries `ENOUGH` bits, was never seen twice, and nothing else speaks for repeats.
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
    # What must have been written twice if this is wrong: one period, or without a second fit the overlap.
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
    """Whether `block` stands somewhere in `lines`."""
    return next(_places(block, lines), None) is not None


def _twice(block: Hashes[int], lines: Hashes[int]) -> bool:
    """Whether `block` is found at two places in `lines`."""
    return len(list(islice(_places(block, lines), 2))) == 2


def _places(block: Hashes[int], lines: Hashes[int]) -> Iterator[int]:
    """Where in `lines` the block begins, in bytes."""
    needle, hay = block.tobytes(), lines.tobytes()
    at = hay.find(needle)
    while at >= 0:
        if at % block.itemsize == 0:
            yield at
        at = hay.find(needle, at + 1)


class _Surprise:
    """How much information lines carry, each given the one before: nothing where the log repeats itself."""

    def __init__(self, lines: Hashes[int], newest: int = SAMPLE) -> None:
        sample = lines[-newest:]  # 0: all of them
        self._total = len(sample)
        self._counts = Counter(sample)
        self._pairs = Counter(pairwise(sample))

    def bits(self, block: Hashes[int]) -> float:
        """The information in `block`; counting stops at `ENOUGH`."""
        found = 0.0
        before: int | None = None
        for line in block:
            found += self._of(line, before)
            if found >= ENOUGH:
                break
            before = line
        return found

    def back(self, lines: Hashes[int]) -> int:
        """How many of the last lines carry `ENOUGH` bits; 0 if all do not."""
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
