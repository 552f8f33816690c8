"""The log of one pod as one growing sequence: what is known of it, and what an answer adds.

Decides how much of an answer is new, what else must be fetched to know, and where a loss cannot be ruled
out. Fetches nothing itself; `stitch` joins the pods and keeps the budget.
"""

from __future__ import annotations

import attrs

from ..models.output import GapReason
from .answer import WHOLE, WIDEST, Answer, Verdict
from .overlap import Fit, Hashes, Place, fits, hashes, locate, recurrence

__all__ = ["MEMORY", "NARROWEST", "Sequence"]

NARROWEST = 16
"""Lines of overlap that are asked for at least."""

MEMORY = 8192
"""Lines of a pod whose hashes are kept."""

HEAD = 8
"""Lines by which the beginning of a log is known again."""

PATIENCE = 10.0
"""Seconds for which an answer that is older than what is known passes for a hiccup."""

TRIES = 16
"""Fetches in one poll after which the best guess is delivered behind a mark."""


class Sequence:
    """One pod's log. `late` pods turned up after the tail began: all their lines are wanted."""

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self.known: Hashes[int] = hashes(())
        self.unbroken: int = 0  # lines at the end of `known` without a gap between
        self.end: int | None = None  # the place of the last known line in the log as it is shown, if known
        self.head: Hashes[int] = hashes(())
        self.last_length: int = 0  # of the last known line, to see it grow
        self.last_delivered: bool = True
        self.growing: int | None = None  # hash of a line that grows, and is held back until it is done
        self.mark: GapReason | None = None  # to come before the next lines
        self.cut: bool = False  # a line too long to show makes the whole log useless
        self.begun: bool = False
        self.margin: int = NARROWEST  # lines of overlap that were needed lately
        self.old: int = 0  # answers in a row that were older than what is known
        self.old_since: float = 0.0
        self.begin_poll()

    def begin_poll(self) -> None:
        """The next answer begins a poll, and is not the wider look of one."""
        self.tries: int = 0
        self.widest: int = 0
        self.ask: int = 0
        self.dear: bool = False
        self.full: Hashes[int] = hashes(())  # the widest answer of this poll that filled its window
        self.short: tuple[int, Hashes[int], bool] | None = None  # an answer that did not, and may be cut
        self.trusted: bool = False  # it is not
        self.looked_old: bool = False

    # --- one answer ---------------------------------------------------------------------------------------

    def take(self, answer: Answer) -> Verdict | None:
        """What `answer` adds; None: nothing, for it is a narrower look that another pod asked for."""
        if self.tries and answer.asked < self.widest and answer.asked != self.ask:
            return None
        verdict = self._take(answer)
        self.widest = max(self.widest, answer.asked)
        self.ask, self.dear = verdict.ask, verdict.doubt is GapReason.REPEATS
        return verdict

    def _take(self, answer: Answer) -> Verdict:
        self.tries += 1
        seen = hashes(answer.lines)
        if not self.begun:
            return self._begin(answer, seen)
        verdict = self._judge(answer, seen)
        if not answer.whole and len(seen) > len(self.full):
            self.full = seen
        return verdict

    def _begin(self, answer: Answer, seen: Hashes[int]) -> Verdict:
        length = len(seen)
        given_up = self.tries >= TRIES
        if answer.whole and self.full and not fits(self.full, seen) and not given_up:
            # Narrower windows showed other lines: this one is cut at a line too long to show.
            self.cut, self.tries = True, TRIES - 1
            narrower = answer.asked - length - 1 if answer.asked < WHOLE else len(self.full)
            return Verdict(ask=max(1, narrower), settled=False)
        enough = answer.whole or given_up
        if not enough and not self.late:
            # The next answer must have something to hold on to.
            enough = locate(seen[1:], length - 1, seen[1:]).fit is Fit.SURE
        if not enough:
            self.full = seen
            return Verdict(ask=self._wider(answer.asked), settled=False)
        self.begun = True
        gap = GapReason.LATE_START if self.late and not answer.whole else None
        self._deliver(answer, seen, length, anew=True)
        return Verdict(length, gap)

    def _judge(self, answer: Answer, seen: Hashes[int]) -> Verdict:
        place, grown, exact = self._place(answer, seen)
        if answer.whole and (not exact or (answer.ending and not place.new)):
            if not answer.shared and not self._confirmed(answer, seen):
                return self._doubt(answer, seen, place, grown)
        elif self.short is not None and len(seen) == answer.asked:
            verdict = self._after_short(answer, seen, place)
            if verdict is not None:
                return verdict
        if place.fit is Fit.SURE:
            return self._sure(answer, seen, place.new, grown)
        if place.fit is Fit.STALE:
            return self._stale(answer, seen)
        if answer.whole or self.tries >= TRIES:
            return self._give_up(answer, seen, place)
        if place.fit is Fit.REPEATS:
            return self._repeats(answer, seen, place)
        if answer.shared and place.fit is Fit.WEAK and len(seen) - place.new in (len(seen), self.end):
            # Few lines of many: if none is new, or they are all that the pod ever wrote, that is enough.
            return self._sure(answer, seen, place.new, grown)
        wider = self._wider(answer.asked)
        if not wider:
            return self._give_up(answer, seen, place)
        return Verdict(doubt=GapReason.UNCONFIRMED, ask=wider, settled=False, held=place.new)

    # --- evidence -----------------------------------------------------------------------------------------

    def _place(self, answer: Answer, seen: Hashes[int]) -> tuple[Place, bool, bool]:
        """Where the answer joins; whether the last known line has grown; whether the place is absolute."""
        length = len(seen)
        if answer.whole and self.end is not None:
            behind = length - self.end
            head = self.head[: max(0, min(HEAD, self.end - 1, length))]
            if seen[: len(head)] == head:
                if behind < 0:
                    if self._is_older(seen, -behind):
                        return Place(Fit.STALE, 0), False, False
                elif self._ends_like(seen[: self.end]):
                    return Place(Fit.SURE, behind), False, True
                elif self._ends_like(seen[: self.end - 1], but=1) and self._grown(answer, behind + 1):
                    return Place(Fit.SURE, behind + 1), True, True
        place = locate(self.known, self.unbroken, seen, self.end, whole=answer.whole)
        if place.fit is Fit.SURE:
            return place, False, False
        if answer.hint is not None and (
            answer.hint == length or answer.hint in fits(self.known[-self.unbroken :], seen)
        ):
            return Place(Fit.SURE, answer.hint), False, False
        if place.fit is Fit.NONE and self.unbroken > 1:
            # The last line may have grown, or the first one of the window be cut.
            longer = locate(self.known[:-1], self.unbroken - 1, seen, self.end and self.end - 1)
            if longer.fit is Fit.SURE and longer.new and self._grown(answer, longer.new):
                return longer, True, False
            without_first = locate(self.known, self.unbroken, seen[1:], self.end)
            if without_first.fit is Fit.SURE:
                return without_first, False, False
        return place, False, False

    def _ends_like(self, seen: Hashes[int], but: int = 0) -> bool:
        """Whether `seen` ends as what is known does, without the last `but` known lines."""
        known = self.known[len(self.known) - self.unbroken : len(self.known) - but]
        common = min(len(known), len(seen))
        return known[len(known) - common :] == seen[len(seen) - common :]

    def _is_older(self, seen: Hashes[int], by: int) -> bool:
        return by >= self.unbroken or self._ends_like(seen, but=by)

    def _grown(self, answer: Answer, new: int) -> bool:
        """Whether the first of the new lines is the last known line and more."""
        line = answer.lines[len(answer.lines) - new]
        return len(line) > self.last_length and hash(line[: self.last_length]) == self.known[-1]

    def _confirmed(self, answer: Answer, seen: Hashes[int]) -> bool:
        """Whether another window showed that this answer is the whole log, and not cut at a line too long."""
        if self.tries >= TRIES or (self.full and fits(self.full, seen)):
            return True
        if self.short is None:
            return False
        return self.trusted and seen[: len(self.short[1])] == self.short[1]

    # --- what follows -------------------------------------------------------------------------------------

    def _sure(self, answer: Answer, seen: Hashes[int], new: int, grown: bool) -> Verdict:
        self.old = 0
        if grown:
            line = seen[len(seen) - new]
            if new == 1 and line != self.growing:
                self.growing = line  # it may go on growing: wait until it rests
                return Verdict(grown=True, settled=False, held=1)
            del self.known[-1]
            self.unbroken -= 1
            if self.end is not None:
                self.end -= 1
        self.growing = None
        if self.tries == 1:
            self.margin = max(NARROWEST, self.margin * 9 // 10)
        elif answer.asked == self.ask and answer.asked <= WIDEST // 4 and not self.dear:
            self.margin = max(self.margin, answer.asked - new)
        grown = grown and self.last_delivered
        self._deliver(answer, seen, new)
        return self._marked(new, grown=grown)

    def _doubt(self, answer: Answer, seen: Hashes[int], place: Place, grown: bool) -> Verdict:
        """The window was not filled though there should be more: the log began anew, or a line is too long.

        In the second case what is missing is that line and all behind it: so the next window is exactly that.
        """
        if place.fit is Fit.STALE and not self.old:
            return self._old(answer)
        length = len(seen)
        narrower = length
        known_to_be_longer = max(self.unbroken, self.end or 0) >= answer.asked
        if known_to_be_longer or (self.short is not None and seen[:1] != self.short[1][:1]):
            narrower = answer.asked - length - 1
        again = self.short is not None and answer.asked - length == 1
        self.short = (answer.asked, seen, place.fit is Fit.SURE)
        verdict = Verdict(doubt=GapReason.UNCONFIRMED, settled=False)
        if place.fit is Fit.SURE:
            end = self.end
            verdict = self._sure(attrs.evolve(answer, whole=False), seen, place.new, grown)
            self.end = end if end is None else end + place.new - grown
        if again:
            # The line that is too long is the last one: there is nothing behind it yet.
            return attrs.evolve(verdict, settled=False, doubt=GapReason.OVERFLOW)
        return attrs.evolve(verdict, ask=narrower if 0 < narrower < answer.asked else length, settled=False)

    def _after_short(self, answer: Answer, seen: Hashes[int], place: Place) -> Verdict | None:
        """A window was filled after one that was not: was that one the whole log, or cut?"""
        assert self.short is not None
        asked, earlier, joined = self.short
        if place.fit is Fit.STALE:
            return None
        if fits(earlier, seen):
            if place.fit is Fit.SURE:
                # It was: the log is shorter than it used to be.
                self.short = None
                if joined:
                    self.end, self.head = len(earlier), earlier[:HEAD]
                    self.unbroken = min(self.unbroken, self.end)
                return None
            self.trusted = True  # it was, and it is what counts: fetch it again
            return Verdict(ask=asked, settled=False)
        if asked >= WHOLE:
            self.cut = True
        elif place.fit is not Fit.SURE:
            exact = answer.asked == asked - len(earlier) - 1
            if not joined:
                if not exact:
                    self.short = None
                    return None
                # These are all the lines behind the long one, and so is what came out after the last mark.
                if place.fit is Fit.NONE:
                    return self._lost(answer, seen, GapReason.OVERFLOW, 0)
                if len(seen) - place.new >= self.unbroken:
                    return self._sure(answer, seen, place.new, grown=False)
                return self._lost(answer, seen, GapReason.UNCONFIRMED, 0, place.new)
            if exact or answer.asked * 2 >= asked or self.tries >= TRIES:
                return self._lost(answer, seen, GapReason.OVERFLOW, 1)
            return Verdict(ask=answer.asked * 2, settled=False)
        self.short = None
        return None

    def _stale(self, answer: Answer, seen: Hashes[int]) -> Verdict:
        """An older state of the log; or it was written anew, word for word."""
        verdict = self._old(answer)
        if not answer.whole:
            # Again and wider, at once: most often that is all it takes.
            wider = self._wider(WIDEST if self.old > 2 else answer.asked)
            look = self.tries == 1 or self.old > 2 or answer.ending
            return attrs.evolve(verdict, ask=wider) if look else verdict
        if not self.trusted or self.old < 3 or answer.now - self.old_since < PATIENCE:
            return verdict
        found = fits(self.known[-self.unbroken :], seen)
        return self._lost(answer, seen, GapReason.RESET, 0, found[0] if found else len(seen))

    def _old(self, answer: Answer) -> Verdict:
        if not self.old:
            self.old_since = answer.now
        self.old += not self.looked_old
        self.looked_old = True
        return Verdict(doubt=GapReason.UNCONFIRMED, settled=False)

    def _repeats(self, answer: Answer, seen: Hashes[int], place: Place) -> Verdict:
        """Look back to where the repeats began, or count the whole log."""
        length = len(seen)
        tail = seen[length - place.new - place.period :] if place.new + place.period <= length else seen
        goes_on = tail[place.period :] == tail[: max(0, len(tail) - place.period)]
        back = recurrence(self.known[-self.unbroken :], place.period)
        need = back + place.most + 16 if back < self.unbroken else WHOLE
        if self.end is not None:
            need = min(need, 2 * self.end + place.most + 64)  # no more comes than there is
        if need <= answer.asked or self.tries > 1:
            need = max(need, answer.asked * 4)
        if need > WIDEST:
            need = 0 if self.cut else WHOLE
        if need == WHOLE and self.end is None:
            need = self._wider(answer.asked)
        if not need:
            return self._give_up(answer, seen, place)
        return Verdict(ask=need, dear=goes_on, settled=False, held=place.new, doubt=GapReason.REPEATS)

    def _give_up(self, answer: Answer, seen: Hashes[int], place: Place) -> Verdict:
        """No fetch tells more: the fewest lines that fit, behind a mark."""
        if place.fit is Fit.REPEATS:
            return self._lost(answer, seen, GapReason.REPEATS, 0, place.new)
        if place.fit is Fit.WEAK:
            return self._lost(answer, seen, GapReason.UNCONFIRMED, 0, place.new)
        began_anew = answer.whole and (self.end is None or len(seen) < self.end)
        return self._lost(answer, seen, GapReason.RESET if began_anew else GapReason.OVERFLOW, 0)

    def _lost(
        self, answer: Answer, seen: Hashes[int], reason: GapReason, at_least: int, new: int | None = None
    ) -> Verdict:
        self.old = 0
        self.growing = None
        self.short = None
        new = len(seen) if new is None else new
        if reason is GapReason.RESET:
            self.cut = False
        self.mark = self.mark or reason
        self._deliver(answer, seen, new, anew=new == len(seen))
        return self._marked(new, at_least)

    def _marked(self, new: int, at_least: int = 0, *, grown: bool = False) -> Verdict:
        """The verdict for lines that come out, behind the mark that waits for them."""
        if not new:
            return Verdict()
        mark, self.mark = self.mark, None
        return Verdict(new, mark, at_least, grown)

    # --- memory -------------------------------------------------------------------------------------------

    def _deliver(self, answer: Answer, seen: Hashes[int], new: int, *, anew: bool = False) -> None:
        """Remember that the last `new` lines of the answer are delivered."""
        length = len(seen)
        if new:
            self.last_length = len(answer.lines[-1])
            self.last_delivered = True
        self.known.extend(seen[length - new :])
        if anew:
            self.unbroken = length if answer.whole else max(1, length - 1)  # the first line may be cut
        else:
            self.unbroken += new
        if length - 1 > len(self.known):
            self.known = seen[1:]
            self.unbroken = length - 1
        del self.known[:-MEMORY]
        self.unbroken = min(self.unbroken, len(self.known))
        if answer.whole:
            self.end, self.head = length, seen[:HEAD]
        elif anew:
            self.end = None
        elif self.end is not None:
            self.end += new

    def overlap(self, young: int) -> int:
        """Lines that the next window should have beside the new ones; all, as long as there are few."""
        if self.end is not None and self.end <= young:
            return self.end + NARROWEST
        return self.margin

    def _wider(self, asked: int) -> int:
        """The next window: four times as wide, in the end without a limit; 0 when there is none."""
        if asked < WIDEST:
            return min(WIDEST, asked * 4)
        return WHOLE if asked < WHOLE and not self.cut else 0
