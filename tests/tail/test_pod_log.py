"""The decisions on one pod's log, reply by reply, and the number of lines that they cost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aiofluence import GapReason
from aiofluence.tail.pod_log import FEWEST, NARROWEST, PodLog
from aiofluence.tail.windows import WHOLE, WIDEST, Verdict, Window

from .life import Grow, Poll, Rotate, TooLong, Write, live
from .store import Counted


def numbered(first: int, end: int) -> list[str]:
    return [f"line {number}" for number in range(first, end)]


class Pod:
    """A pod's log, of which each window is requested by hand."""

    def __init__(self, texts: Sequence[str], *, late: bool = False) -> None:
        self.texts = list(texts)
        self.log = PodLog(late=late)
        self.now = 0.0

    def poll(self, asked: int, shown: Sequence[str] | None = None, **how: object) -> Verdict:
        self.log.begin_poll()
        self.now += 1.5
        return self.widen(asked, shown, **how)

    def widen(self, asked: int, shown: Sequence[str] | None = None, **how: object) -> Verdict:
        verdict = self.log.take(self.window(asked, shown, **how))
        assert verdict is not None
        return verdict

    def window(self, asked: int, shown: Sequence[str] | None = None, **how: object) -> Window:
        lines = self.texts[-asked:] if shown is None else shown
        whole = asked == WHOLE or len(lines) != asked
        fields: dict[str, object] = {"whole": whole, "now": self.now} | how
        return Window(lines, asked, **fields)  # type: ignore[arg-type]

    @classmethod
    def begun(cls, texts: Sequence[str], **how: bool) -> Pod:
        pod = cls(texts, **how)
        assert pod.poll(WHOLE).new == len(texts)
        return pod


def settle(pod: Pod, asked: int) -> Verdict:
    verdict = pod.poll(asked)
    while verdict.ask:
        verdict = pod.widen(verdict.ask)
    return verdict


def test_a_narrow_reply_after_a_wide_one() -> None:
    pod = Pod.begun(numbered(0, 100))
    pod.texts += ["new"]
    assert pod.poll(64).new == 1
    assert pod.log.take(pod.window(16)) is None
    assert pod.log.take(pod.window(128)) is not None


def test_counts_need_less_overlap() -> None:
    pod = Pod.begun([*numbered(0, 100), *["beat"] * 30])
    pod.log.end = None
    pod.texts += ["beat"]
    verdict = pod.poll(16)
    assert (verdict.doubt, verdict.count_only) == (GapReason.REPEATS, True)
    assert pod.log.overlap(0) == FEWEST
    pod.texts += numbered(200, 300)
    verdict = pod.poll(16)
    assert verdict.doubt is GapReason.UNCONFIRMED
    assert pod.log.overlap(0) == NARROWEST


def test_late_lines_do_not_widen_later_windows() -> None:
    pod = Pod.begun(numbered(0, 1000))
    pod.texts += numbered(1000, 1100)
    assert pod.poll(16).ask == 64
    assert pod.widen(64).ask == 256
    assert pod.widen(256).new == 100
    assert pod.log.margin == NARROWEST


def test_a_needed_overlap_widens_later_windows() -> None:
    pod = Pod.begun([*numbered(0, 1000), *"abbabaababbaabbabaababbaabbababb"])
    pod.log.end = None
    pod.texts += ["other"]
    assert settle(pod, 16).new == 1
    assert pod.log.margin == 63
    pod.texts += ["another"]
    assert pod.poll(64).new == 1
    assert pod.log.margin == 56  # a tenth less after each poll that needs no more


@pytest.mark.parametrize("size", [100, 1000])
def test_equal_bursts_cost_one_wide_window_each(size: int) -> None:
    pod = Pod.begun(numbered(0, 2000))
    pod.log.end = None
    fetches: list[int] = []
    for burst in range(2, 6):
        pod.now += 60
        pod.texts += numbered(burst * size + 5000, (burst + 1) * size + 5000)
        fetches, verdict = [16], pod.poll(16)
        while verdict.ask:
            fetches.append(verdict.ask)
            verdict = pod.widen(verdict.ask)
        assert verdict.new == size
    assert len(fetches) == 2
    assert fetches[1] < 2.5 * size + 200


def test_the_end_after_a_burst_costs_one_window() -> None:
    pod = Pod.begun(numbered(0, 9000))
    pod.log.end = None
    pod.texts += numbered(9000, 9040)
    ask = pod.poll(16, ending=True).ask
    assert 8192 + 40 <= ask <= 8192 + 200
    assert pod.widen(ask, ending=True).new == 40


def test_few_lines_are_no_repetition() -> None:
    """A quiet pod with few lines is not fetched whole at the end, unless its log repeats itself."""
    pod = Pod.begun(["hello", "world"])
    assert pod.poll(16, whole=False, shared=True).settled
    pod.texts += ["third"]
    assert pod.poll(16, [*pod.texts[1:]], whole=False, shared=True).ask == 64
    assert not pod.log.repeated


def test_a_quiet_pod_is_settled_by_equal_windows() -> None:
    """All lines that the pod ever wrote suffice, if a wider window shows no more of them."""
    pod = Pod.begun(["hello", "world"])
    pod.texts += ["third"]
    shown = [*pod.texts]
    verdict = pod.poll(16, shown, whole=False, shared=True)
    assert (verdict.settled, verdict.ask) == (False, 64)
    verdict = pod.widen(64, shown, whole=False, shared=True)
    assert (verdict.settled, verdict.new) == (True, 1)


def test_a_confirmation_ends_after_three_windows() -> None:
    pod = Pod.begun(numbered(0, 500))
    pod.log.end = None
    pod.now += 60
    pod.texts += numbered(500, 502)
    verdict, fetches = pod.poll(16), 1
    while not verdict.settled:
        assert verdict.ask > 0
        pod.texts += numbered(1000 * fetches, 1000 * fetches + 40)  # more than the window allows for
        verdict = pod.widen(verdict.ask)
        fetches += 1
    assert fetches == 4
    assert verdict.new == 2 + 3 * 40


@pytest.mark.parametrize(("pause", "polls"), [(0.0, 7), (10.0, 2)], ids=["ten seconds", "three polls"])
def test_an_identical_new_log_is_a_reset(pause: float, polls: int) -> None:
    """A restart that repeats the old text is marked, if it stops short of the old end for a while."""
    pod = Pod.begun(numbered(0, 60))
    pod.texts = numbered(0, 30)
    verdicts = []
    for _ in range(12):
        pod.now += pause
        verdicts.append(settle(pod, 76))
        if verdicts[-1].gap:
            break
    (reset,) = [verdict for verdict in verdicts if verdict.gap]
    assert (reset.gap, reset.new, reset.at_least) == (GapReason.RESET, 30, 0)
    assert verdicts.index(reset) == polls
    assert (pod.log.old, pod.log.unbroken, pod.log.end) == (0, 30, 30)
    pod.texts += ["new"]
    assert pod.poll(76).new == 1


def test_an_old_reply_is_held_and_then_forgotten() -> None:
    pod = Pod.begun(numbered(0, 60))
    old = pod.texts[:50]
    assert not pod.poll(76, old).settled
    assert pod.poll(76).settled
    assert pod.log.old == 0
    assert pod.poll(76, old).ask == 0  # most probably a stale reply
    assert pod.poll(76, old).ask == 50  # the second in a row is examined


def test_a_window_that_others_fill_belongs_to_all() -> None:
    pod = Pod.begun(numbered(0, 60))
    assert pod.poll(32, pod.texts[-20:], whole=False, shared=True).settled
    assert not pod.log.own


def test_a_line_that_grows_is_held_until_it_rests() -> None:
    pod = Pod.begun([*numbered(0, 20), "10 %"])
    pod.texts[-1] = "10 % 20 %"
    verdict = pod.poll(37)
    assert (verdict.settled, verdict.grown, verdict.held) == (False, True, 1)
    pod.texts[-1] = "10 % 20 % 30 %"
    assert not pod.poll(37).settled
    verdict = pod.poll(37)
    assert (verdict.settled, verdict.grown, verdict.new) == (True, True, 1)
    pod.texts[-1] += " done"
    pod.texts += ["next"]
    verdict = pod.poll(37)
    assert (verdict.settled, verdict.grown, verdict.new) == (True, True, 2)


def test_no_window_is_wider_than_the_whole_log() -> None:
    pod = Pod.begun(numbered(0, 9000))
    pod.texts = numbered(20_000, 29_000)
    verdict = pod.poll(WIDEST)
    assert verdict.ask == WHOLE
    verdict = pod.widen(WHOLE)
    assert (verdict.new, verdict.gap, verdict.ask) == (9000, GapReason.OVERFLOW, 0)


def test_a_window_in_a_known_block_is_no_proof() -> None:
    trace = [f"frame {frame}" for frame in range(40)]
    pod = Pod.begun([*numbered(0, 100), *trace])
    pod.texts += ["first", *trace]
    assert settle(pod, 64).new == 41
    pod.log.end = None
    verdict = pod.poll(16)  # the last lines are known, and may have come again
    assert (verdict.count_only, verdict.doubt) == (True, GapReason.REPEATS)
    assert verdict.ask >= len(trace) + NARROWEST
    assert pod.widen(verdict.ask).settled
    pod.texts += ["second", *trace]
    assert settle(pod, 16).new == 41


@pytest.mark.parametrize("more", [[], ["more"]], ids=["nothing new", "a new line"])
def test_a_short_log_that_came_again_is_counted(more: list[str]) -> None:
    """All lines that a pod ever wrote, written again where other pods hide the first of them."""
    pod = Pod.begun(["start", "beat", "ready", "beat", "go"])
    pod.texts += [*pod.texts, *numbered(0, 14)]
    shown = pod.texts[-19:]
    assert pod.poll(64, shown, whole=False, shared=True).ask == 256
    assert pod.widen(256, shown, whole=False, shared=True).new == 14
    pod.texts += more
    verdict = pod.poll(4096, shared=True)
    assert (verdict.new, verdict.gap, verdict.at_least) == (len(more), GapReason.REPEATS, 5)


def test_lines_before_a_long_line_and_after_it() -> None:
    """A reply ends before a line that is too long. Narrower windows show the lines after it."""
    before, after = numbered(0, 60), numbered(100, 105)
    pod = Pod.begun(before)
    verdict = pod.poll(76, [*before, "last"], whole=True, ending=True)
    assert (verdict.new, verdict.ask) == (1, 61)  # 66 lines in all, and 61 are shown
    shown = [*before, "last"][6:]  # of the newest 61, the last six are the long line and those after it
    assert pod.widen(61, shown).ask == 5
    assert pod.widen(5, after).ask == 6
    assert pod.widen(6, []).ask == 5  # this window begins with the long line
    verdict = pod.widen(5, after)
    assert (verdict.new, verdict.gap, verdict.at_least) == (5, GapReason.OVERFLOW, 1)
    assert (pod.log.behind, pod.log.end) == (True, 5)


def test_a_long_last_line_is_marked_in_time() -> None:
    pod = Pod.begun(numbered(0, 60))
    assert pod.poll(76, ending=True).ask == 60
    verdict = pod.widen(60, pod.texts[1:])
    assert (verdict.new, verdict.settled, pod.log.end) == (0, True, 0)
    assert pod.log.mark is GapReason.OVERFLOW


def test_a_pod_may_begin_with_a_long_line() -> None:
    pod = Pod(numbered(0, 30), late=True)
    assert pod.poll(256, ending=True).ask == 30
    pod.widen(30, pod.texts[1:])
    assert (pod.log.begun, pod.log.mark) == (True, GapReason.LATE_START)


LONG = TooLong()


def lines(count: int) -> Write:
    return Write(("line #",), count)


@pytest.mark.parametrize(
    ("life", "delivered", "lost", "most"),
    [
        ([Poll((lines(60),)), Poll((LONG, lines(5))), Poll((lines(1),))], 66, 1, 21),
        ([Poll((lines(60),)), Poll((LONG,)), Poll(), Poll((lines(2),))], 62, 1, 23),
        ([Poll((lines(60),)), Poll((LONG, lines(40), LONG, lines(3))), Poll((lines(90),))], 153, 42, 14),
        ([Poll((lines(60),)), Poll((LONG, lines(200)), (lines(3),)), Poll((lines(1),))], 264, 1, 15),
        ([Poll((lines(60),)), Poll((LONG, lines(2000))), Poll((lines(1),))], 2061, 1, 20),
        ([Poll((LONG, lines(30))), Poll((lines(3),))], 33, 0, 16),
        (
            [Poll((lines(60),)), Poll((LONG, lines(20))), Poll((Rotate(3), lines(4))), Poll((lines(2),))],
            70,
            18,
            11,
        ),
        (
            [Poll((lines(60),)), Poll((LONG, lines(20))), Poll((Rotate(0), lines(4))), Poll((lines(2),))],
            67,
            21,
            11,
        ),
        (
            [Poll((lines(60),)), Poll((LONG, lines(2))), Poll((Grow(),)), Poll((Grow(),)), Poll((lines(1),))],
            63,
            1,
            42,
        ),
        (
            [
                Poll((lines(60),)),
                Poll((LONG, lines(2))),
                Poll((lines(2),)),
                Poll((lines(1),), stale=2),
                Poll(),
            ],
            65,
            1,
            35,
        ),
        (
            [Poll((Write(("a", "b"), 20),)), Poll((LONG, Write(("a", "b"), 3))), Poll((Write(("a",)),))],
            40,
            8,
            6,
        ),
    ],
    ids=["middle", "last", "two", "during", "many", "first", "rotated", "anew", "growing", "stale", "common"],
)
def test_lines_around_a_long_line(life: list[Poll], delivered: int, lost: int, most: int) -> None:
    """Only the line that is too long is lost, with one mark, and few windows find the others."""
    store = Counted(cut=True)
    result = live(store, False, 1, 1000, [*life, Poll()])
    assert (result.silent, result.twice, result.disorder, result.needless) == (0, 0, 0, 0), result.wrong
    assert (result.delivered, result.lost, result.marks) == (delivered, lost, 1)
    assert store.fetches <= most


def test_lines_after_a_long_line_join_no_others() -> None:
    """Lines that equal those before a long line at the end of a reply are new."""
    rows = tuple(f"row {row}" for row in range(60))
    life = [Poll((Write(rows),)), Poll((LONG,)), Poll(), Poll((Write(rows[-20:]),)), Poll()]
    result = live(Counted(cut=True), False, 1, 1000, life)
    assert (result.delivered, result.lost, result.silent, result.marks) == (80, 1, 0, 1), result.wrong


def test_a_count_proves_that_the_log_is_known() -> None:
    """Lines were missed before the last known ones, which are too few and common to join by themselves."""
    pod = Pod.begun([*numbered(0, 100), *["beat"] * 3])
    pod.texts = [*numbered(0, 100), *numbered(500, 510), *["beat"] * 3]
    verdict = settle(pod, WHOLE)
    assert (verdict.new, verdict.gap, verdict.at_least) == (0, GapReason.REPEATS, 10)


def test_a_window_of_all_pods_is_not_searched() -> None:
    """A narrower window of all pods shows less of each pod, so the short reply is accepted."""
    pod = Pod.begun(numbered(0, 60))
    pod.texts = numbered(200, 230)
    assert pod.poll(76, apart=False).ask == 30
    assert pod.widen(30, pod.texts[15:], apart=False).ask == 76
    assert pod.widen(76, apart=False).ask == WHOLE
    verdict = pod.widen(WHOLE, apart=False)
    assert (verdict.new, verdict.gap) == (30, GapReason.RESET)


def test_a_mark_of_doubt_counts_no_line() -> None:
    pod = Pod.begun(numbered(0, 60))
    pod.log.mark = GapReason.OVERFLOW
    assert pod.poll(16).gap is None  # the mark waits for the next line
    pod.texts += ["new"]
    verdict = pod.poll(16)
    assert (verdict.new, verdict.gap, verdict.at_least) == (1, GapReason.OVERFLOW, 0)


def test_other_pods_lines_need_no_wide_window() -> None:
    pod = Pod.begun(numbered(0, 500))
    pod.log.end = None
    pod.now += 60
    assert pod.poll(32, numbered(900, 920), whole=False, shared=True).ask == 128


def test_a_grown_line_joins_over_no_gap() -> None:
    """The first line of a window may be cut, so a line that grew is recognised without it."""
    pod = Pod.begun(numbered(0, 100))
    pod.log.end = None
    after = ["ne 500", *numbered(501, 519), "10 %"]
    verdict = pod.poll(20, after, limited=True)
    assert (verdict.new, verdict.gap) == (20, GapReason.OVERFLOW)
    grown = pod.poll(29, [*numbered(491, 519), "10 % 20 %"])
    assert (grown.settled, grown.grown, grown.held) == (False, True, 1)
