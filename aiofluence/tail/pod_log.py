"""The log of one pod as one growing sequence: its known lines, and what a reply adds.

`PodLog` decides how many lines of a reply are new, and which window must be fetched to decide that. It
marks places where a loss cannot be ruled out. It makes no requests. `stitch` joins the pods
and keeps the budget.
"""

from __future__ import annotations

import attrs

from ..models.logs import GapReason
from .known import HEAD, MEMORY
from .overlap import Fit, Hashes, Place, certain, contains, fits, hashes, locate
from .repeats import NARROWEST, RECURRING, Repeats
from .truncation import Found, Probe
from .windows import WHOLE, WIDEST, Verdict, Window

__all__ = ["NARROWEST", "PodLog"]

FEWEST = 4
"""Minimum overlap in lines while the log only repeats itself: other windows count its lines."""

PATIENCE = 10.0
"""Seconds for which a reply older than the known lines counts as a transient fault."""

LITTLE = 64
"""A number of lines so small that no service is expected to cap its replies there."""

TRIES = 32
"""Fetches in one poll before the best guess is delivered after a gap."""


class PodLog(Repeats):
    """The log of one pod. A `late` pod appeared after the tail began: all its lines are wanted."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late
        self.growing: int | None = None  # hash of a line that grows, and is held back until it is complete
        self.mark: GapReason | None = None  # reason of the gap to deliver before the next lines
        self.begun: bool = False
        self.own: bool = False  # the pod certainly has a window of its own, whatever the replies suggest
        self.margin: int = NARROWEST  # lines of overlap that recent polls needed
        self.old: int = 0  # number of successive replies that were older than the known lines
        self.old_since: float = 0.0
        self.counted: int = 0  # window of the last count of repeats that was inconclusive
        self.begin_poll()

    def begin_poll(self) -> None:
        """Note that the next reply begins a poll, and does not widen the current one."""
        self.tries: int = 0
        self.fresh: bool = False  # the log began in this poll
        self.widest: int = 0
        self.ask: int = 0
        self.count_only: bool = False
        self.before: Hashes[int] = hashes(())  # the previous reply of the same poll
        self.full: Hashes[int] = hashes(())  # the widest reply of this poll that filled its window
        self.probe: Probe | None = None  # the search about a reply that did not, and may be cut
        self.confirmed: bool = False  # that reply is not cut: the log is really that short
        self.noted_old: bool = False
        self.confirmations: int = 0  # wider windows requested in case a block was repeated unseen

    # --- one answer ---------------------------------------------------------------------------------------

    def take(self, answer: Window) -> Verdict | None:
        """Return what `answer` adds; None if another pod wanted it and it adds nothing about this pod."""
        idle = self.probe or self.fresh or answer.asked < self.widest
        if answer.asked != self.ask and self.tries and idle:
            if self.fresh and answer.asked >= WHOLE:
                self._count(hashes(answer.lines))
            return None
        if self.own:
            whole = len(answer.lines) != answer.asked
            answer = attrs.evolve(answer, whole=whole, shared=False, apart=True)
        verdict = self._take(answer)
        self.recount.came(verdict.new, answer.now)
        self.widest = max(self.widest, answer.asked)
        self.ask, self.count_only = verdict.ask, verdict.doubt is GapReason.REPEATS
        return verdict

    def _take(self, answer: Window) -> Verdict:
        self.tries += 1
        self.limited: bool = answer.limited
        seen = hashes(answer.lines)
        if self.probe is not None:
            return self._probed(answer, seen, self.probe)
        verdict = self._read(answer, seen)
        self.before = seen
        if not answer.whole and len(seen) > len(self.full):
            self.full = seen
        return verdict

    def _read(self, answer: Window, seen: Hashes[int]) -> Verdict:
        contradicted = bool(self.full) and not self._shows_full(seen)
        if contradicted and answer.whole and answer.shared:
            self.own = True
            answer = attrs.evolve(answer, shared=False, apart=True)
        believed = not answer.whole or answer.shared or self.confirmed or self.tries >= TRIES
        believed = believed or len(seen) > answer.asked  # the service ignores windows
        if not self.begun:
            doubtful = contradicted or (answer.ending and bool(seen))
            if doubtful and not (believed or self._seen_whole(seen)):
                return self._doubt(answer, seen, Place(Fit.NONE, 0), grown=False)
            return self._begin(answer, seen)
        if self.behind and not believed:
            return self._doubt(answer, seen, Place(Fit.NONE, 0), grown=False)
        place, grown, exact = self._place(answer, seen)
        if not believed and (not exact or contradicted or answer.ending) and not self._seen_whole(seen):
            return self._doubt(answer, seen, place, grown=grown)
        return self._judge(answer, seen, place, grown, exact=exact)

    def _count(self, seen: Hashes[int]) -> None:
        """Take the number of lines so far from the whole log, which another pod requested."""
        place = locate(self.known, self.unbroken, seen)
        if self.end is None and place.fit is Fit.SURE:
            self._count_from(len(seen) - place.new, seen[:HEAD])

    def _seen_whole(self, seen: Hashes[int]) -> bool:
        """Return True if a window that was filled in this poll shows that no line is hidden after `seen`."""
        return bool(self.full) and not self.behind and self._shows_full(seen)

    def _shows_full(self, seen: Hashes[int]) -> bool:
        return contains(seen, self.full[:-1])  # the last line may have grown since

    def _begin(self, answer: Window, seen: Hashes[int]) -> Verdict:
        length = len(seen)
        enough = answer.whole or self.limited or self.behind or self.tries >= TRIES
        if not enough and not self.late:
            # The next reply must be able to join this one.
            enough = locate(seen[1:], length - 1, seen[1:]).fit is Fit.SURE
        if not enough:
            self.full = seen
            return Verdict(ask=self._wider(answer.asked), settled=False)
        alone = not (self.behind or self.limited or answer.shared)
        if alone and answer.whole and answer.asked < WHOLE and length >= LITTLE:
            # The service may show fewer lines than requested, without notice.
            return Verdict(ask=WHOLE, settled=False, held=length)
        self.begun = self.fresh = True
        gap = GapReason.LATE_START if self.late and (self.behind or not answer.whole) else None
        self._deliver(answer, seen, length, anew=True)
        return Verdict(length, gap)

    def _judge(self, answer: Window, seen: Hashes[int], place: Place, grown: bool, *, exact: bool) -> Verdict:
        if place.fit is Fit.SURE:
            ask = 0 if exact or self.confirmations > 2 else self._confirming(answer, seen, place.new)
            if ask > answer.asked:
                self.confirmations += 1
                return Verdict(ask=ask, settled=False, held=place.new, doubt=GapReason.REPEATS)
            if (self._uncounted(answer, seen, 1) or 0) > place.new:
                return self._missed(answer, seen, place.new)
            return self._sure(answer, seen, place.new, grown)
        if place.fit is Fit.STALE:
            return self._stale(answer, seen)
        if answer.whole and answer.asked < WHOLE and not (self.behind or self.limited):
            # The service may show fewer lines than requested, without notice.
            return Verdict(doubt=GapReason.UNCONFIRMED, ask=WHOLE, settled=False, held=place.new)
        if answer.whole or self.tries >= TRIES:
            return self._give_up(answer, seen, place)
        self.repeated: bool = self.repeated or place.fit is Fit.REPEATS
        # Without new lines, nothing was written, or all of the last lines were written again.
        nothing = not (place.new or answer.shared or self.behind)
        only_repeats = nothing or self._only_repeats(seen, place)
        if place.fit is Fit.REPEATS or only_repeats:
            return self._repeats(answer, seen, place, count_only=only_repeats)
        all_of_them = len(seen) - place.new == self.end and seen == self.before
        if answer.shared and place.fit is Fit.WEAK and (all_of_them or not place.new):
            # A quiet pod shows few lines in a window that other pods fill. One without new lines suffices.
            # So do all lines that the pod ever wrote, if a wider window shows no more of them.
            return self._sure(answer, seen, place.new, grown)
        wider = self._wider(answer.asked)
        if not wider:
            return self._give_up(answer, seen, place)
        if place.fit is Fit.NONE and not answer.shared:
            wider = max(wider, self._after_pause(answer))
        return Verdict(doubt=GapReason.UNCONFIRMED, ask=wider, settled=False, held=place.new)

    def _missed(self, answer: Window, seen: Hashes[int], new: int) -> Verdict:
        """Mark a loss: the last lines join, those before do not. A block was repeated unseen earlier."""
        at_least = max(0, (self._uncounted(answer, seen, 1) or 0) - new)
        verdict = self._lost(answer, seen, GapReason.REPEATS, at_least, new)
        if new:
            return verdict
        mark, self.mark = self.mark, None
        return Verdict(0, mark, at_least)

    # --- lines that are too long to be shown --------------------------------------------------------------
    #
    # The lines after such a line are a log of their own, counted from there.

    def _doubt(self, answer: Window, seen: Hashes[int], place: Place, *, grown: bool) -> Verdict:
        """Start a search: the window was not filled, so the log is short or the reply is cut."""
        if place.fit is Fit.STALE and not self.old and not self.behind:
            return self._old(answer)
        length = len(seen)
        verdict = Verdict(doubt=GapReason.UNCONFIRMED, settled=False, held=0 if self.begun else length)
        joins = self.begun and place.fit is Fit.SURE and not self.behind
        if joins:
            verdict = self._sure(attrs.evolve(answer, whole=False), seen, place.new, grown)
        if 0 < answer.numbered < min(length, answer.asked) and not self.full:
            # The narrower windows of a search would be refused. A filled window shows the newest lines.
            return attrs.evolve(verdict, ask=answer.numbered, settled=False)
        self.probe = Probe(answer.asked, seen, joins=joins)
        # If counting begins after such a line already, a window of all known lines most often joins.
        ask = min(self.unbroken, answer.asked - 1) if self.behind and self.unbroken else length
        return attrs.evolve(verdict, ask=max(1, ask), settled=False)

    def _probed(self, answer: Window, seen: Hashes[int], probe: Probe) -> Verdict:
        """Judge a narrower window, requested because of the reply that was not filled."""
        unsettled = Verdict(doubt=GapReason.UNCONFIRMED, settled=False)
        if not answer.apart:
            # A narrower window shows less of each pod, so it proves nothing about a single pod.
            self.probe, self.confirmed = None, True
            return attrs.evolve(unsettled, ask=probe.asked)
        joins = self.begun and self.behind and self._place(answer, seen)[0].fit is Fit.SURE
        found = probe.told(
            answer.asked,
            seen,
            behind=self.behind,
            joins=joins,
            full=len(self.full),
            last=self.tries >= TRIES,
        )
        if isinstance(found, int):
            return attrs.evolve(unsettled, ask=found)
        self.probe = None
        if found is Found.NOTHING:
            return unsettled
        if found is Found.NOTHING_BEHIND:
            return self._nothing_behind()
        if found is Found.FILLED:
            return self._read(answer, seen)
        if found is Found.WHOLE:
            return self._confirm(attrs.evolve(answer, whole=True), seen)
        return self._read_behind(attrs.evolve(answer, whole=found is Found.ALL_BEHIND), seen, probe.joins)

    def _confirm(self, answer: Window, seen: Hashes[int]) -> Verdict:
        """Take the reply that did not fill its window as the whole log."""
        self.confirmed = True
        if self.behind:
            self.behind = False
            self._count_from(None)
        return self._read(answer, seen)

    def _read_behind(self, answer: Window, seen: Hashes[int], before: bool) -> Verdict:
        """Take the newest lines after the long line, or all. `before`: the lines before it are delivered."""
        was_behind, self.behind = self.behind, True
        if not self.begun:
            return self._begin(answer, seen)
        if not was_behind:
            self._count_from(None)
        place, grown, _ = self._place(answer, seen)
        if place.fit is Fit.SURE:
            return self._sure(answer, seen, place.new, grown)
        if place.fit is Fit.STALE:
            return self._old(answer)
        new = place.new if place.fit is not Fit.NONE else None
        reason = GapReason.OVERFLOW if new is None else GapReason.UNCONFIRMED
        return self._lost(answer, seen, reason, int(before and new is None), new)

    def _nothing_behind(self) -> Verdict:
        """Note that the line that is too long is the last line."""
        fresh = not self.behind or self.end != 0
        self.behind = True
        if not self.begun:
            self.begun = True
            self.mark = GapReason.LATE_START if self.late else None
        if fresh:
            self.mark = self.mark or GapReason.OVERFLOW
            self._count_from(0)
            self._break()
        return Verdict()

    # --- what follows -------------------------------------------------------------------------------------

    def _sure(self, answer: Window, seen: Hashes[int], new: int, grown: bool) -> Verdict:
        self.old = 0
        self.counted = 0
        if grown:
            line = seen[len(seen) - new]
            if new == 1 and line != self.growing:
                self.growing = line  # the line may continue to grow: wait until it stops
                return Verdict(grown=True, settled=False, held=1)
            self._forget_last()
        self.growing = None
        if self.tries == 1:
            self.margin = max(NARROWEST, self.margin * 9 // 10)
        elif answer.asked == self.ask and not (answer.whole or self.count_only) and len(self.before) > new:
            self.margin = max(self.margin, min(answer.asked - new, WIDEST // 4))
        grown = grown and self.last_delivered
        if new and new == len(seen):
            self._break()  # the last known line may have grown where no window shows it
        self._deliver(answer, seen, new)
        return self._marked(new, grown=grown)

    def _stale(self, answer: Window, seen: Hashes[int]) -> Verdict:
        """Judge an older state of the log, or a log that was written again word for word."""
        verdict = self._old(answer)
        if not answer.whole:
            # Most often, a wider window at once suffices.
            wider = self._wider(WIDEST if self.old > 2 else answer.asked)
            at_once = self.tries == 1 or self.old > 2 or answer.ending
            return attrs.evolve(verdict, ask=wider) if at_once else verdict
        if not self.confirmed or self.old < 3 or answer.now - self.old_since < PATIENCE:
            return verdict
        found = fits(self.known[-self.unbroken :], seen)
        return self._lost(answer, seen, GapReason.RESET, 0, found[0] if found else len(seen))

    def _old(self, answer: Window) -> Verdict:
        if not self.old:
            self.old_since = answer.now
        self.old += not self.noted_old
        self.noted_old = True
        return Verdict(doubt=GapReason.UNCONFIRMED, settled=False)

    def _repeats(self, answer: Window, seen: Hashes[int], place: Place, *, count_only: bool) -> Verdict:
        """Request a window back to where the lines before the repeats leave no doubt, or the whole log."""
        back = certain(self.known[-min(self.unbroken, RECURRING) :])
        need = max(back, self.recurred) + max(place.most, place.new) + NARROWEST if back else WHOLE
        if count_only:
            need = max(need, 4 * self.counted)  # the last window was not wide enough
            self.counted = min(need, MEMORY)
        if self.end is not None:
            need = min(need, 2 * self.end + place.most + 64)  # the log has no more lines
        if need <= answer.asked or self.tries > 1:
            need = max(need, answer.asked * 4)
        if need > WIDEST:
            need = 0 if self.behind else WHOLE
        if need == WHOLE and self.end is None:
            need = self._wider(answer.asked)
        if not need or self.limited:
            return self._give_up(answer, seen, place)
        return Verdict(
            ask=need, count_only=count_only, settled=False, held=place.new, doubt=GapReason.REPEATS
        )

    def _give_up(self, answer: Window, seen: Hashes[int], place: Place) -> Verdict:
        """Deliver the smallest number of lines that fits, after a gap: no further fetch would decide."""
        uncounted = self._uncounted(answer, seen)
        if place.fit is Fit.NONE or (uncounted is not None and place.new > uncounted):
            new = self._joins_by_fewer(seen, uncounted)
            if new is not None:
                return self._missed(answer, seen, new)
        if place.fit is Fit.REPEATS:
            return self._lost(answer, seen, GapReason.REPEATS, 0, place.new)
        if place.fit is Fit.WEAK:
            return self._lost(answer, seen, GapReason.UNCONFIRMED, 0, place.new)
        began_anew = answer.whole and (self.end is None or len(seen) < self.end)
        return self._lost(answer, seen, GapReason.RESET if began_anew else GapReason.OVERFLOW, 0)

    def _lost(
        self, answer: Window, seen: Hashes[int], reason: GapReason, at_least: int, new: int | None = None
    ) -> Verdict:
        self.old = 0
        self.growing = None
        new = len(seen) if new is None else new
        if reason is GapReason.RESET:
            self.behind: bool = False
        self.mark = self.mark or reason
        self._deliver(answer, seen, new, anew=True)
        return self._marked(new, at_least)

    def _marked(self, new: int, at_least: int = 0, *, grown: bool = False) -> Verdict:
        """Return the verdict for lines to deliver, after the pending gap if there is one."""
        if not new:
            return Verdict()
        mark, self.mark = self.mark, None
        return Verdict(new, mark, at_least, grown)

    # --- windows --------------------------------------------------------------------------------------------

    def is_young(self, young: int) -> bool:
        """Return True if the log has at most `young` lines, as far as known."""
        return self.end is not None and self.end <= young

    def overlap(self, young: int) -> int:
        """Return the overlap that the next window needs beside new lines: the whole log while it is young."""
        if self.end is not None and self.is_young(young):
            return self.end + NARROWEST
        return FEWEST if self.count_only else self.margin

    def _wider(self, asked: int) -> int:
        """Return the next window: four times as wide, and at last unlimited; 0 if there is none."""
        if self.limited:
            return 0
        if asked < WIDEST:
            return min(WIDEST, asked * 4)
        return WHOLE if asked < WHOLE and not self.behind else 0
