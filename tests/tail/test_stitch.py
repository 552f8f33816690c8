"""The stitcher's rules by example: what is delivered, what is asked next, and where a mark stands."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aiofluence import GapReason, LogGap, LogLine
from aiofluence.tail.known import Together
from aiofluence.tail.pace import Pace
from aiofluence.tail.stitch import Step, Stitch


def lines(texts: Sequence[str], pod: str | None = "web-1") -> list[LogLine]:
    return [LogLine.parse(text if pod is None else f"[{pod}] {text}") for text in texts]


def numbered(first: int, end: int) -> list[str]:
    return [f"line {number}" for number in range(first, end)]


class Log:
    """A log and the tail of it: `poll` answers every window from `texts` until the poll is settled."""

    def __init__(self, texts: list[str], last: int = 100) -> None:
        self.texts = texts
        self.stitch = Stitch(last)
        self.now = 0.0
        self.asked: list[int | None] = []

    def poll(self, *, ending: bool = False) -> list[str]:
        out: list[str] = []
        self.asked = []
        while True:
            ask = self.stitch.ask
            self.asked.append(ask)
            shown = self.texts if ask is None else self.texts[-ask:]
            step = self.stitch.take(lines(shown), ask, self.now, ending=ending)
            out += told(step)
            if not step.at_once:
                self.now += step.interval
                return out


def told(step: Step) -> list[str]:
    return [spelt(item) for item in step.items]


def spelt(item: LogLine | LogGap) -> str:
    if isinstance(item, LogGap):
        return f"<{item.reason} {item.at_least}>"
    return f"{item.text} (grown)" if item.grown else item.text


def test_the_last_lines_then_the_new_ones() -> None:
    log = Log(numbered(0, 1000), last=10)
    assert log.poll() == numbered(990, 1000)
    log.texts += numbered(1000, 1005)
    assert log.poll() == numbered(1000, 1005)
    assert log.poll() == []


def test_an_empty_log_is_read_from_its_first_line() -> None:
    log = Log([])
    assert log.poll() == []
    log.texts += numbered(0, 2000)
    assert log.poll() == numbered(0, 2000)


def test_wider_windows_follow_at_once() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    log.texts += numbered(1000, 3500)
    assert log.poll() == numbered(1000, 3500)
    assert log.asked == [16, 64, 256, 1024, 4096]


def test_the_whole_log_follows_the_widest_window() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    log.texts += numbered(1000, 9000)
    assert log.poll() == numbered(1000, 9000)
    assert log.asked[-1] is None


def test_the_whole_log_counts_identical_lines() -> None:
    log = Log(["beat"] * 50)
    assert log.poll() == ["beat"] * 50
    for _ in range(20):
        log.texts += ["beat"] * 3
        log.now += 30
        log.poll()
    assert sum(map(len, [log.poll(ending=True)])) == 0
    assert log.stitch.finish() == ()


def test_a_young_log_is_seen_whole() -> None:
    block = [f"row {row}" for row in range(40)]
    log = Log(block[:36])
    assert log.poll() == block[:36]
    log.texts = (block * 3)[:96]  # more than was to be expected, and the same 36 lines among them
    assert log.poll() == log.texts[36:]


def test_not_every_poll_counts_repeats() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    came, polls = 0, 60
    for _ in range(polls):
        log.texts += ["still alive"] * 3
        came += len(log.poll())
        assert log.asked[0] is not None
        assert log.asked[0] <= 64
    assert log.texts[1000:] == ["still alive"] * 3 * polls
    log.texts += ["done"]
    assert came + len(log.poll()) == 3 * polls + 1  # what was held comes with the line that ends the run
    assert log.stitch.finish() == ()


def test_repeats_are_held_until_counted() -> None:
    block = [f"row {row}" for row in range(40)]
    log = Log(block * 40)
    delivered = len(log.poll())
    for _ in range(40):
        log.texts += block[:7] + block[7:]
        delivered += len(log.poll())
    delivered += len(log.poll(ending=True))
    assert delivered == 40 * 40 + 100
    assert log.stitch.finish() == ()


def test_a_new_log_is_whole_behind_a_mark() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    log.texts = ["booting", "ready"]
    assert log.poll() == ["<reset 0>", "booting", "ready"]
    log.texts.append("working")
    assert log.poll() == ["working"]


def test_a_rotation_that_keeps_enough_is_no_mark() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    log.texts = numbered(970, 1003)
    assert log.poll() == numbered(1000, 1003)


def test_lines_lost_in_a_ring_are_marked() -> None:
    log = Log(numbered(0, 500))
    log.poll()
    log.texts = numbered(2000, 2500)
    assert log.poll()[0].startswith("<")


def test_an_empty_or_old_reply_changes_nothing() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    now = log.texts
    log.texts = []
    assert log.poll() == []
    log.texts = now[:-20]
    assert log.poll() == []
    log.texts = [*now, "new"]
    assert log.poll() == ["new"]


def test_a_growing_line_comes_again_when_it_rests() -> None:
    log = Log([*numbered(0, 500), "10 %"])
    assert log.poll()[-1] == "10 %"
    log.texts[-1] = "10 % 20 %"
    assert log.poll() == []
    log.texts[-1] = "10 % 20 % 30 %"
    assert log.poll() == []
    assert log.poll() == ["10 % 20 % 30 % (grown)"]
    log.texts[-1] += " done"
    log.texts.append("next")
    assert log.poll() == ["10 % 20 % 30 % done (grown)", "next"]


def test_a_held_growing_line_comes_at_the_end() -> None:
    log = Log([*numbered(0, 500), "10 %"])
    log.poll()
    log.texts[-1] = "10 % 20 %"
    log.poll()
    assert [spelt(item) for item in log.stitch.finish()] == ["10 % 20 % (grown)"]


def test_a_cut_first_line_does_not_matter() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    log.texts.append("new")
    shown = log.texts[-16:]
    step = log.stitch.take(lines(["ne 985", *shown[1:]]), 16, 2.0)
    assert told(step) == ["new"]


def test_a_long_line_is_a_mark_and_the_rest_comes() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    before, after = log.texts, numbered(2000, 2005)

    def shown(asked: int) -> list[str]:
        window = [*before, "TOO LONG", *after][-asked:]
        return window[: window.index("TOO LONG")] if "TOO LONG" in window else window

    ask, out = 16, []
    for _ in range(8):
        step = log.stitch.take(lines(shown(ask)), ask, 2.0)
        out += told(step)
        if not step.at_once:
            break
        assert step.ask is not None
        ask = step.ask
    assert out == ["<overflow 1>", *after]


def test_pods_are_told_apart_whatever_their_order() -> None:
    stitch = Stitch()
    one, two = numbered(0, 300), [f"other {number}" for number in range(300)]
    stitch.take(lines(one[-256:], "a") + lines(two[-256:], "b"), 256, 0.0)
    one.append("a1")
    two += ["b1", "b2"]
    step = stitch.take(lines(two[-16:], "b") + lines(one[-16:], "a"), 16, 2.0)
    assert told(step) == ["b1", "b2", "a1"]


def test_a_new_pod_comes_whole_and_the_old_marked() -> None:
    stitch = Stitch()
    old, new = numbered(0, 300), [f"other {number}" for number in range(50)]
    stitch.take(lines(old[-256:], "old"), 256, 0.0)
    step = stitch.take(lines(old[-16:], "old") + lines(new[-16:], "new"), 16, 2.0)
    assert (told(step), step.at_once) == ([], True)
    assert step.ask is not None
    step = stitch.take(lines(old[-step.ask :], "old") + lines(new[-step.ask :], "new"), step.ask, 2.1)
    assert told(step) == new
    gaps: list[LogLine | LogGap] = []
    for poll in range(3):
        assert step.ask is not None
        step = stitch.take(lines(new[-step.ask :], "new")[1:], step.ask, 4.0 + 2 * poll)
        gaps += step.items
        while step.at_once:
            assert step.ask is not None
            step = stitch.take(lines(new[-step.ask :], "new")[1:], step.ask, 4.1 + 2 * poll)
            gaps += step.items
    assert [gap.reason for gap in gaps if isinstance(gap, LogGap) and gap.pod == "old"] == [
        GapReason.POD_GONE
    ]


def test_what_is_gone_at_the_end_is_marked() -> None:
    stitch = Stitch()
    stitch.take(lines(numbered(0, 50)), 256, 0.0)
    stitch.take([], 16, 2.0, ending=True)
    assert stitch.finish() == (LogGap(GapReason.POD_GONE, 0, "web-1"),)


def test_the_rate_sets_window_and_interval() -> None:
    log = Log(numbered(0, 1000))
    for poll in range(12):
        log.texts += numbered(1000 * (poll + 1), 1000 * (poll + 1) + 300)
        log.poll()
    assert log.asked[0] is not None
    assert 450 <= log.asked[0] <= 700  # one and a half times the expected lines, and the overlap
    assert log.stitch.interval == pytest.approx(1.5)
    began, polls = log.now, 0
    while log.now < began + 600:
        log.poll()
        polls += 1
    assert polls < 600 / 8
    assert log.stitch.interval == 15
    log.texts.append("awake")
    assert log.poll() == ["awake"]
    assert log.stitch.interval == 1.5


def test_a_poll_that_failed_is_simply_not_told() -> None:
    log = Log(numbered(0, 1000))
    log.poll()
    ask = log.stitch.ask
    log.now += 60
    log.texts += numbered(1000, 1500)
    assert log.stitch.ask == ask
    assert log.poll() == numbered(1000, 1500)


def test_lines_without_a_pod_are_one_log() -> None:
    stitch = Stitch()
    assert len(told(stitch.take(lines(numbered(0, 50), None), 256, 0.0))) == 50
    assert told(stitch.take(lines(numbered(0, 52), None), 66, 2.0)) == ["line 50", "line 51"]


def test_a_quiet_young_log_is_whole_at_times() -> None:
    log = Log(numbered(0, 50))
    log.poll()
    asked = []
    for _ in range(6):
        log.poll()
        asked += log.asked
    assert [ask and ask >= 256 for ask in asked] == [True, False] * 3
    log.texts.append("new")
    log.poll()
    log.poll()
    assert log.asked[0] is not None
    assert log.asked[0] >= 256  # after new lines, at once


def test_a_hidden_pod_is_searched_for_rarely() -> None:
    """A window that counts the lines of all pods may hide a quiet one, which is searched for with pauses."""
    stitch, asked = Stitch(), []
    quiet, busy = lines(["hello"], "quiet"), lines(numbered(0, 20_000), "busy")
    now, shown = 0.0, 900
    while now < 300:
        ask = stitch.ask
        asked.append(ask)
        step = stitch.take([*quiet, *busy[:shown]][-(ask or 99_999) :], ask, now)
        if not step.at_once:
            now += step.interval
            shown += 50
    searches = [ask for ask in asked[1:] if ask is None or ask >= 4096]
    assert 2 <= len(searches) <= 5  # after 30, 60, 120, 240 s


def test_the_budget_for_counts_follows_the_rate() -> None:
    pace = Pace()
    pace.came([], 0.0)
    pace.brought(60_000)
    pace.came([], 600.0)  # 100 bytes per second, so 1,832 per second for counts, and 16 KiB at first
    assert pace.afford(13_000)
    assert not pace.afford(5_000)
    assert pace.afford(900)
    pace.came(lines(["x" * 192] * 20), 600.0)
    assert not pace.afford(90)  # the lines are longer now


# --- all pods together --------------------------------------------------------------------------------------


class Mixed:
    """The lines of two pods, by time, and the hints for them."""

    def __init__(self) -> None:
        self.both = Together()
        self.lines = [
            line for number in range(300) for pod in "ab" for line in lines([f"line {number}"], pod)
        ]

    def hints(self, first: int, end: int) -> dict[str | None, int]:
        shown = self.lines[first:end]
        return self.both.hints(
            shown, {pod: [i for i, line in enumerate(shown) if line.pod == pod] for pod in "ab"}
        )

    def deliver(self, *pods: str) -> None:
        for pod in pods:
            self.both.delivered(pod, 3, settled=True)


def test_hints_count_new_and_held_lines() -> None:
    mixed = Mixed()
    assert mixed.hints(0, 60) == {}
    mixed.deliver("a", "b")
    mixed.both.polled()
    assert mixed.hints(10, 70) == {"a": 5, "b": 5}
    mixed.deliver("a")
    mixed.both.delivered("b", 0, settled=False)
    mixed.both.polled()
    assert mixed.hints(20, 74) == {"a": 2, "b": 7}
    mixed.both.delivered("a", 1, settled=False)  # a part of them: the rest is not known
    mixed.deliver("b")
    assert mixed.hints(30, 76) == {"b": 1}
    mixed.deliver("a")
    assert mixed.hints(40, 78) == {"a": 1, "b": 2}


def test_hints_end_with_an_unjoined_reply() -> None:
    mixed = Mixed()
    mixed.hints(0, 60)
    mixed.deliver("a", "b")
    mixed.both.polled()
    assert mixed.hints(200, 260) == {}
    mixed.deliver("a")
    mixed.both.delivered("b", 0, settled=False)
    assert mixed.hints(10, 70) == {"b": 5}  # the lines that `a` has delivered were in another reply
    mixed.deliver("a", "b")
    assert mixed.hints(300, 360) == {}
    mixed.deliver("a")
    mixed.both.polled()
    assert mixed.hints(310, 362) == {"a": 1}  # `b` has not taken the reply with which the lines begin


def test_a_hundred_pods_one_after_another() -> None:
    stitch = Stitch(100)
    out: list[str] = []
    for number in range(100):
        for _ in range(4):
            while True:
                shown = lines(numbered(0, 5), f"web-{number}")
                step = stitch.take(shown[-(stitch.ask or 5) :], stitch.ask, 0.0)
                out += [item.raw for item in step.items if isinstance(item, LogLine)]
                if not step.at_once:
                    break
    assert out == [f"[web-{number}] {text}" for number in range(100) for text in numbered(0, 5)]
