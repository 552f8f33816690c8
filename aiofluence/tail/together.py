"""The lines of all pods as one sequence. If the service mixes pods by time, it shows each pod's new lines.

The result is only a hint for `pod_log`, which knows its pod better. It never decides a delivery alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from ..models.logs import LogLine
from .known import MEMORY
from .overlap import Fit, Hashes, hashes, locate

__all__ = ["Together"]


class Together:
    """The lines of all pods, in the order of the replies."""

    def __init__(self) -> None:
        self._known: Hashes[int] = hashes(())
        self._unbroken = 0
        self._unjoined: Hashes[int] | None = None
        self._mixed = False  # the lines are ordered by time, not pod after pod
        self._behind: set[str | None] = set()  # pods that have not delivered all lines in `_known`

    def hints(
        self, lines: Sequence[LogLine], by_pod: Mapping[str | None, Collection[int]]
    ) -> dict[str | None, int]:
        """Return the number of new lines per pod, if the reply as a whole joins the earlier lines."""
        changes = sum(one.pod != other.pod for one, other in pairwise(lines))
        self._mixed = self._mixed or changes >= max(1, len(by_pod))
        seen = hashes([line.raw for line in lines])
        place = locate(self._known, self._unbroken, seen)
        if place.fit is not Fit.SURE:
            self._unjoined = seen
            return {}
        self._unjoined = None
        self._known.extend(seen[len(seen) - place.new :])
        self._unbroken += place.new
        self._trim()
        if not self._mixed:
            return {}
        first = len(lines) - place.new
        return {
            pod: sum(index >= first for index in indices)
            for pod, indices in by_pod.items()
            if pod not in self._behind
        }

    def delivered(self, pod: str | None, *, all_of_it: bool) -> None:
        """Note if a pod has delivered all lines of its last reply."""
        if all_of_it:
            self._behind.discard(pod)
        else:
            self._behind.add(pod)

    def polled(self, missing: Collection[str | None]) -> None:
        """Note the end of a poll whose last reply lacked `missing` pods. An unjoined reply starts anew."""
        if self._unjoined is not None:
            self._known, self._unbroken = self._unjoined, len(self._unjoined)
            self._unjoined = None
            self._behind.update(missing)
            self._trim()

    def _trim(self) -> None:
        del self._known[:-MEMORY]
        self._unbroken = min(self._unbroken, len(self._known))
