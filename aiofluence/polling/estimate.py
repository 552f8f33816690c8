"""An estimate of provisioning times that starts wide and learns: no clock, tasks or requests.

Two layers. A mixture of lognormals, weighted by Bayes' rule, learns from a few instances. A life table on top
of the mixture learns any shape from many.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Final, TypeAlias

import attrs

Pending: TypeAlias = Sequence[tuple[float, int]]
"""Pending instances in groups: (loop time at which provisioning began, number of instances)."""

_FIRST: Final = 2.0
_LAST: Final = 4500.0
_RATIO: Final = 1.04
"""Edges of the age bins, in seconds at the default pace: 0, then from `_FIRST` to `_LAST` in this ratio."""
_SEEN: Final = (
    (0.22, 33.0, 0.12),
    (0.25, 72.0, 0.10),
    (0.12, 119.0, 0.21),
    (0.19, 150.0, 0.19),
    (0.22, 400.0, 0.13),
)
"""First guess, as (weight, median, sigma). The service's guides show 33 s (a failed VM), 72 s (a container)
and 119 s (a VM). 150 s and 400 s represent plans and bare metal, which the guides do not show. Part `truths`
of benchmarks/launch.py shows the effect of the weights."""
_SPREAD: Final = 0.1
"""Sigma within one batch. The rest of a guess's sigma is doubt about its median."""
_STEPS: Final = tuple(step / 2 for step in range(-4, 5))
"""Medians around a guess, in units of that doubt."""
_DOUBT: Final = 0.05
"""Weight of all other medians in the first guess."""
_MEDIANS: Final = (6.0, 2000.0)
_LADDER: Final = ((0.25, 0.1, 0.15), (0.5, 0.25, 0.3), (0.25, 0.6, 0.6))
"""All other medians, as (weight, sigma, logarithmic step from one median to the next)."""
_STRAY: Final = 0.05
"""Share of instances that no single lognormal explains."""
_PENDING: Final = 0.5
"""Weight of a pending instance in Bayes' rule. Instances of a batch correlate, which the mixture ignores."""
_WEIGHT: Final = 10.0
"""Number of instances that the mixture counts for in the life table, at each age."""
_MEMORY: Final = 2000.0
"""Number of instances after which earlier instances count half: the service may change."""
_LIKELY: Final = 1 / 125
"""Hazard (per second, at the default pace) from which on an instance counts as likely to become ready."""
_FADE: Final = 1.25
"""Exponent: a second with less hazard counts as its share of `_LIKELY` to this power."""
_ENOUGH: Final = 5
"""Number of observations from which on `_LIKELY` falls with age, from 33 s: slow kinds vary more."""
_FALL: Final = 0.7


@attrs.frozen
class LifeTable:
    """A distribution of provisioning times.

    Attributes:
        edges: ages in seconds, ascending from 0.
        cdf: share of instances that were provisioned, at each edge.
        area: integral of the CDF from 0 to each edge.
        likely: seconds up to each edge during which an instance is likely to become ready. A second with
            little hazard counts for less.
    """

    edges: Sequence[float]
    cdf: Sequence[float]
    area: Sequence[float]
    likely: Sequence[float]

    def at(self, age: float) -> tuple[float, float]:
        """CDF at `age`, and its integral from 0 to `age`. Between edges the CDF is straight."""
        edges = self.edges
        if age >= edges[-1]:
            return self.cdf[-1], self.area[-1] + self.cdf[-1] * (age - edges[-1])
        left = bisect_right(edges, age) - 1
        past = age - edges[left]
        slope = (self.cdf[left + 1] - self.cdf[left]) / (edges[left + 1] - edges[left])
        return self.cdf[left] + slope * past, self.area[left] + (self.cdf[left] + slope * past / 2) * past

    def left(self, age: float, share: float = 0.5) -> float:
        """Seconds beyond `age` until `share` of the instances pending at `age` are provisioned."""
        done = self.at(age)[0]
        wanted = done + (1 - done) * share
        index = bisect_left(self.cdf, wanted)
        if index >= len(self.cdf):
            return age
        low, high = self.cdf[index - 1], self.cdf[index]
        left, right = self.edges[index - 1], self.edges[index]
        return left + (right - left) * (wanted - low) / (high - low) - age

    def undetected(self, age: float, then: float) -> float:
        """E[(then - T)+ | T > age]: expected seconds for which a ready instance stays undetected.

        The instance was polled at `age`, when it was not ready, and is polled next at age `then`.
        """
        done, area = self.at(age)
        if then <= age or done >= 1.0:
            return 0.0
        return (self.at(then)[1] - area - done * (then - age)) / (1 - done)

    def after(self, age: float, seconds: float) -> float:
        """Age at which an instance was likely to become ready for `seconds` since `age`."""
        edges, likely = self.edges, self.likely
        left = min(bisect_right(edges, age), len(edges) - 1) - 1
        share = (age - edges[left]) / (edges[left + 1] - edges[left])
        target = likely[left] + (likely[left + 1] - likely[left]) * share + seconds
        index = bisect_left(likely, target)
        if index >= len(likely):
            return max(age, edges[-1]) + seconds
        share = (target - likely[index - 1]) / (likely[index] - likely[index - 1])
        return edges[index - 1] + (edges[index] - edges[index - 1]) * share


@attrs.frozen
class _Mixture:
    """Lognormals at a pace of 1.

    Attributes:
        edges: ages of the bins.
        prior: logarithm of each lognormal's weight.
        survival: share that takes longer than each edge, one row for each lognormal. Strays are included.
        logs: logarithms of `survival`.
    """

    edges: tuple[float, ...]
    prior: tuple[float, ...]
    survival: tuple[tuple[float, ...], ...]
    logs: tuple[tuple[float, ...], ...]


@cache
def _mixture(expected: float | None) -> _Mixture:
    steps = math.ceil(math.log(_LAST / _FIRST, _RATIO))
    scale = 1.0 if expected is None else expected / 150
    edges = (0.0, *(scale * _FIRST * _RATIO**step for step in range(steps + 1)))
    shares = [math.exp(-(step**2) / 2) for step in _STEPS]
    parts = []
    for weight, median, sigma in _SEEN if expected is None else ((1.0, expected, 0.25),):
        doubt = math.sqrt(sigma**2 - _SPREAD**2)
        for step, share in zip(_STEPS, shares, strict=True):
            part = weight * (1 - _DOUBT) * share / sum(shares)
            parts.append((part, median * math.exp(doubt * step), _SPREAD))
    for weight, sigma, step in _LADDER:
        count = math.ceil(math.log(_MEDIANS[1] / _MEDIANS[0]) / step)
        share = _DOUBT * weight / count
        parts += [(share, scale * _MEDIANS[0] * math.exp(step * n), sigma) for n in range(count)]
    rows = [[1.0, *(_longer(edge / median, sigma) for edge in edges[1:])] for _, median, sigma in parts]
    stray = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    survival = tuple(
        tuple((1 - _STRAY) * own + _STRAY * other for own, other in zip(row, stray, strict=True))
        for row in rows
    )
    logs = tuple(tuple(math.log(max(share, 1e-300)) for share in row) for row in survival)
    return _Mixture(edges, tuple(math.log(weight) for weight, _, _ in parts), survival, logs)


def _longer(ratio: float, sigma: float) -> float:
    """Share of a lognormal that takes longer than `ratio` times its median."""
    return math.erfc(math.log(ratio) / sigma / math.sqrt(2)) / 2


class ProvisioningEstimate:
    """Provisioning times of one kind, as one session has learnt them.

    Instances that are still pending are evidence, too: they are not ready so far.

    Args:
        expected: first guess of the seconds that provisioning takes. None: the times of the service's guides.
        pace: real seconds to a second of the service. Less than 1 in time-lapse.
    """

    def __init__(self, expected: float | None = None, pace: float = 1.0) -> None:
        self._mixture: Final = _mixture(None if expected is None else expected / pace)
        self._edges: Final = tuple(edge * pace for edge in self._mixture.edges)
        self._first_likely: Final = [_LIKELY / pace] * len(self._edges)
        self._likely: Final = [(33 / max(edge / pace, 33)) ** _FALL * _LIKELY / pace for edge in self._edges]
        self._logs: list[float] = list(self._mixture.prior)
        """Logarithms of the posterior weights, from the instances that were provisioned."""
        bins = len(self._edges) - 1
        self._events = [0.0] * bins
        self._came = [0.0] * bins
        """Number of provisioned instances that reached each bin, as differences to its left neighbour."""
        self._seen = 0
        self._plain: LifeTable | None = None

    @property
    def has_seen(self) -> bool:
        """Return True if an instance has become ready, or failed."""
        return self._seen > 0

    def saw(self, low: float, high: float) -> None:
        """Learn from an instance whose provisioning ended, in any state, between ages `low` and `high`."""
        if not 0 <= low < high:
            return
        self._plain = None
        self._seen += 1
        first, last = self._bin(low), self._bin(high)
        before, after = self._share(first, low), self._share(last, high)
        self._logs = [
            total
            + math.log(
                max(
                    row[first] + (row[first + 1] - row[first]) * before
                    - row[last] - (row[last + 1] - row[last]) * after,
                    1e-300,
                )
            )
            for total, row in zip(self._logs, self._mixture.survival, strict=True)
        ]  # fmt: skip
        left = 1.0
        self._came[0] += 1.0
        # Spread evenly, not by the estimate: an estimate that feeds on itself would never see its mistake.
        for index in range(first, last + 1):
            share = (min(high, self._edges[index + 1]) - max(low, self._edges[index])) / (high - low)
            share = min(max(share, 0.0), left)
            self._events[index] += share
            left -= share
            if index + 1 < len(self._came):
                self._came[index + 1] -= share
        if self._seen % _MEMORY == 0:
            self._events = [count / 2 for count in self._events]
            self._came = [count / 2 for count in self._came]
            self._logs = [
                prior + (total - prior) / 2
                for prior, total in zip(self._mixture.prior, self._logs, strict=True)
            ]

    def table(self, now: float = 0.0, waiting: Pending = ()) -> LifeTable:
        """Distribution of provisioning times, given that `waiting` are still pending."""
        if not waiting:
            self._plain = self._plain or self._table(self._logs, list(accumulate(self._came)))
            return self._plain
        through = [0.0] * len(self._events)
        came = list(accumulate(self._came))
        alive = [0.0] * len(self._edges)
        for began, number in waiting:
            if (age := now - began) > 0:
                last = self._bin(age)
                share = self._share(last, age)
                through[last] += number
                # The instances have survived a part of their last bin.
                came[last] += number * (share - 1)
                alive[last] += number * (1 - share)
                alive[last + 1] += number * share
        lived = accumulate(reversed(through))
        logs = self._logs
        at = [(index, _PENDING * number) for index, number in enumerate(alive) if number]
        if at:
            logs = [
                total + sum(number * row[index] for index, number in at)
                for total, row in zip(logs, self._mixture.logs, strict=True)
            ]
        return self._table(logs, [a + b for a, b in zip(came, reversed(list(lived)), strict=True)])

    def _table(self, logs: list[float], came: list[float]) -> LifeTable:
        longer = self._longer(logs)
        hazards = self._likely if self._seen >= _ENOUGH else self._first_likely
        edges, cdf, area, likely, left = self._edges, [0.0], [0.0], [0.0], 1.0
        for index, events in enumerate(self._events):
            guess = 1 - longer[index + 1] / longer[index] if longer[index] > 1e-12 else 0.5
            risk = min((_WEIGHT * guess + events) / (_WEIGHT + came[index]), 1.0)
            width = edges[index + 1] - edges[index]
            area.append(area[-1] + (1 - left * (1 - risk / 2)) * width)
            left *= 1 - risk
            cdf.append(1 - left)
            likely.append(likely[-1] + width * min(risk / width / hazards[index], 1.0) ** _FADE)
        return LifeTable(edges, cdf, area, likely)

    def _longer(self, logs: list[float]) -> list[float]:
        """Share that takes longer than each edge, in the mixture with these weights."""
        most = max(logs)
        longer = [0.0] * len(self._edges)
        total = 0.0
        for log, row in zip(logs, self._mixture.survival, strict=True):
            if log > most - 9:
                weight = math.exp(log - most)
                total += weight
                longer = [a + weight * b for a, b in zip(longer, row, strict=True)]
        return [share / total for share in longer]

    def _bin(self, age: float) -> int:
        return min(bisect_right(self._edges, age) - 1, len(self._events) - 1)

    def _share(self, index: int, age: float) -> float:
        """Part of the bin that is below `age`."""
        left, right = self._edges[index], self._edges[index + 1]
        return min((age - left) / (right - left), 1.0)
