"""Where an answer joins the lines that are already known: the mathematics, on hashes alone.

Pure and without memory of its own: `sequence` keeps the hashes and decides what follows from a `Place`.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from enum import Enum

import attrs

__all__ = ["Fit", "Hashes", "Place", "fits", "hashes", "locate", "recurrence"]

Hashes = array  # of "q": eight bytes a line

ENOUGH = 64.0
"""Bits that a block of lines must carry before its recurrence may be ruled out."""

CHANCE = 32.0
"""Bits up to which a second, shorter overlap passes for chance; beyond, the log is known to repeat itself."""

SAMPLE = 1024
"""Lines from which it is learnt how common a line is."""


def hashes(lines: Sequence[str]) -> Hashes[int]:
    """One 64-bit hash for each line; Python's own, keyed anew in every process, so that none can be forged."""
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
        period: after how many lines the log repeats itself; 0 unless `fit` is REPEATS.
    """

    fit: Fit
    new: int
    most: int = 0
    period: int = 0


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


def recurrence(known: Hashes[int], period: int) -> int:
    """How many lines at the end of `known` repeat with this period."""
    length = len(known)
    for back in range(1, length - period + 1):
        if known[-back] != known[-back - period]:
            return back - 1 + period
    return length


def locate(known: Hashes[int], unbroken: int, seen: Hashes[int]) -> Place:
    """Where `seen` joins `known`, of which only the last `unbroken` lines are without a gap.

    The fewest new lines that fit are the right number unless some block of lines was written twice. So they
    are sure when that block carries `ENOUGH` bits, was never seen twice, and nothing else speaks for repeats.
    """
    fresh = known[-unbroken:] if unbroken else known[:0]
    found = fits(fresh, seen)
    if found:
        place = _judge(known, len(fresh), seen, found)
        if place.fit is Fit.SURE:
            return place
    else:
        place = Place(Fit.NONE, len(seen))
    older = fits(seen, known)
    if older and older[0] > 0:
        common = min(len(seen), len(known) - older[0])
        block = known[len(known) - older[0] - common : len(known) - older[0]]
        if place.fit is not Fit.REPEATS and _Rarity(known, seen).bits(block) >= ENOUGH:
            return Place(Fit.STALE, 0)
    return place


def _judge(known: Hashes[int], unbroken: int, seen: Hashes[int], found: list[int]) -> Place:
    length = len(seen)
    new = found[0]
    overlap = min(unbroken, length - new)
    period = found[1] - new if len(found) > 1 else 0
    rarity = _Rarity(known, seen)
    # What any other answer would have had to see twice: one period, or without a second fit the whole overlap.
    block = known[-min(period or overlap, overlap) :]
    unique = rarity.bits(block) >= ENOUGH and not _recurs(block, known, seen, new)
    if period:
        second = min(unbroken, length - found[1])
        if unique and rarity.bits(known[-second:]) <= CHANCE:
            return Place(Fit.SURE, new)
        return Place(Fit.REPEATS, new, found[-1], period)
    return Place(Fit.SURE if unique else Fit.WEAK, new, new)


def _recurs(block: Hashes[int], known: Hashes[int], seen: Hashes[int], new: int) -> bool:
    """Whether the last lines of `known` are found a second time, in what was known or in what is seen."""
    return _twice(block, known + seen[len(seen) - new :]) or _twice(block, seen)


def _twice(block: Hashes[int], lines: Hashes[int]) -> bool:
    needle, hay = block.tobytes(), lines.tobytes()
    times, at = 0, hay.find(needle)
    while at >= 0:
        if at % block.itemsize == 0:
            times += 1
            if times == 2:
                return True
        at = hay.find(needle, at + 1)
    return False


class _Rarity:
    """How much information a line carries: the rarer it was lately, the more."""

    def __init__(self, known: Hashes[int], seen: Hashes[int]) -> None:
        sample = known[-SAMPLE:] + seen[-SAMPLE:]
        self._counts = Counter(sample)
        self._total = len(sample)

    def bits(self, block: Hashes[int]) -> float:
        """The information in `block`; counting stops at `ENOUGH`."""
        found = 0.0
        for line in block:
            found += math.log2(self._total / self._counts.get(line, 1))
            if found >= ENOUGH:
                break
        return found
