"""The mathematics of overlaps, by example; a line is a number here, and an equal number is an equal line."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import pytest

from aiofluence import LogLine
from aiofluence.tail.known import Known
from aiofluence.tail.overlap import Fit, Hashes, Place, certain, contains, fits, hashes, last_period, locate
from aiofluence.tail.pod_log import TRIES, PodLog
from aiofluence.tail.truncation import Found, Probe
from aiofluence.tail.windows import WHOLE, Window


def rows(*parts: int | Iterable[int]) -> Hashes[int]:
    """Lines by number: single ones and ranges."""
    found = array("q")
    for part in parts:
        found.extend([part] if isinstance(part, int) else part)
    return found


def by_hand(known: Hashes[int], seen: Hashes[int]) -> list[int]:
    """`fits` without its algorithm."""
    found = []
    for new in range(len(seen)):
        overlap = seen[: len(seen) - new]
        size = min(len(known), len(overlap))
        if size and known[-size:] == overlap[-size:]:
            found.append(new)
    return found


@pytest.mark.parametrize(
    ("known", "seen"),
    [
        (rows(range(20)), rows(range(10, 25))),
        (rows(range(20)), rows(range(20))),
        (rows(range(20)), rows(range(20, 30))),
        (rows(1, 1, 1), rows(1, 1, 1, 1, 1)),
        (rows(1, 2, 1, 2), rows(2, 1, 2, 1, 2)),
        (rows(3, 1, 2, 1, 2), rows(2, 1, 2, 1, 2)),
        (rows(range(5)), rows(range(5), range(5), range(5))),
        (rows(7), rows(range(9))),
        (rows(range(9)), rows(7)),
        (rows(), rows(1)),
        (rows(1), rows()),
        (rows(0, 0, 1, 0, 0), rows(0, 0, 1, 0, 0, 1, 0, 0)),
        (rows(1, 0, 0, 1, 0), rows(0, 1, 0, 0, 1, 0, 0, 1, 0, 9)),
    ],
)
def test_each_number_of_new_lines_that_fits(known: Hashes[int], seen: Hashes[int]) -> None:
    assert fits(known, seen) == by_hand(known, seen)


def test_the_last_period() -> None:
    assert last_period(rows()) == 0
    assert last_period(rows(1)) == 0
    assert last_period(rows(1, 1)) == 1
    assert last_period(rows(5, 1, 2, 1, 2)) == 2
    assert last_period(rows(1, 2, 3)) == 0
    assert last_period(rows(9, range(4), range(4))) == 4
    assert last_period(rows(range(4), range(3))) == 0


def test_a_block_is_found_between_lines_only() -> None:
    assert contains(rows(1, 2, 3), rows(2, 3))
    assert contains(rows(1, 2, 3), rows(1, 2, 3))
    assert not contains(rows(1, 2, 3), rows(3, 2))
    shifted = array("q", [1 << 8, 1 << 8, 1 << 8])
    assert not contains(shifted, rows(1))  # the same bytes, but not at the bounds of a line
    assert contains(array("q", [*shifted, 1]), rows(1))


def test_lines_that_are_certain_to_be_known_again() -> None:
    unique = rows(range(1000))
    assert 6 <= certain(unique) <= 8  # 10 bits each
    assert certain(rows([1] * 1000)) == 0
    assert certain(rows(range(3))) == 0
    again = rows(range(500), range(100, 110))
    assert 15 <= certain(again) <= 20  # the ten that came again tell nothing


def test_short_or_common_overlaps_are_weak() -> None:
    known = rows(range(1000))
    assert locate(known, 1000, rows(range(980, 1003))) == Place(Fit.SURE, 3, 3)
    assert locate(known, 1000, rows(range(997, 1003))).fit is Fit.WEAK
    assert locate(known, 1000, rows(range(2000, 2020))).fit is Fit.NONE
    assert locate(known, 1000, rows(range(2000, 2020))).new == 20
    common = rows(range(1000), [7, 8] * 20)
    assert locate(common, 1040, rows([7, 8] * 8, 5000)).fit is not Fit.SURE


def test_a_block_seen_twice_is_no_evidence() -> None:
    block = range(100, 140)
    known = rows(range(100), block, range(200, 300), block)
    assert locate(known, len(known), rows(range(120, 140), 999)).fit is Fit.WEAK
    assert locate(known, len(known), rows(range(250, 300), block, 999)) == Place(Fit.SURE, 1, 1)


def test_pairs_that_recur_carry_no_information() -> None:
    rows_twice = rows(*(part for epoch in range(1000, 1004) for part in (epoch, range(20))))
    # The last 24 lines occur once, but each line follows the same line as before.
    assert locate(rows_twice, 84, rows(rows_twice[-24:], 5000)).fit is Fit.REPEATS


def test_two_places_are_repeats_or_chance() -> None:
    block = rows(range(50))
    twice = locate(block, 50, rows(block, block))
    assert (twice.fit, twice.new, twice.most) == (Fit.REPEATS, 0, 50)
    chance = locate(rows(range(100, 200), 1), 101, rows(range(150, 200), 1, 300, 301, 1))
    assert (chance.fit, chance.new) == (Fit.SURE, 3)


def test_only_lines_without_a_gap_join() -> None:
    known = rows(range(100), range(500, 504))
    assert locate(known, 4, rows(range(90, 100), range(500, 505))).fit is Fit.WEAK
    assert locate(known, 104, rows(range(90, 100), range(500, 505))).fit is Fit.SURE
    assert locate(known, 0, rows(range(500, 505))).fit is Fit.NONE


def test_the_end_bounds_the_lines_before_it() -> None:
    block = rows(range(100, 140))
    seen = rows(range(139 - 9, 140), block)  # 50 lines: the block is the whole log, and comes again
    assert locate(block, 40, seen).new == 0
    assert locate(block, 40, seen, end=40).new == 40
    assert locate(block, 40, seen, end=40, whole=True).new == 0
    assert locate(block, 40, rows(range(60, 100), block), end=40).fit is not Fit.SURE


def test_an_old_answer_is_known_to_be_one() -> None:
    known = rows(range(100))
    assert locate(known, 100, rows(range(70, 95))) == Place(Fit.STALE, 0)
    assert locate(known, 100, rows(range(90, 93))).fit is Fit.NONE  # too few to tell
    assert locate(known, 0, rows(range(75, 100))).fit is Fit.STALE
    # An answer that is longer than what is known of it, as after a gap.
    assert locate(rows(range(51)), 51, rows(range(500, 519), range(41))).fit is Fit.STALE
    whole = locate(known, 100, rows(range(100), 200), whole=True)
    assert whole == Place(Fit.SURE, 1, 1)
    few = locate(rows(range(6)), 6, rows(range(6), 200), whole=True)
    assert few.fit is Fit.WEAK
    assert locate(rows(range(14)), 14, rows(range(14), 200), whole=True).fit is Fit.SURE


# --- what is known ------------------------------------------------------------------------------------------


def answer(texts: list[str], asked: int = WHOLE, *, whole: bool = True) -> tuple[Window, Hashes[int]]:
    return Window(texts, asked, whole, 0.0), hashes(texts)


def test_delivered_lines_keep_their_place() -> None:
    known = Known()
    texts = [f"line {line}" for line in range(20)]
    known._deliver(*answer(texts), 20, anew=True)
    assert (len(known.known), known.unbroken, known.end, len(known.head)) == (20, 20, 20, 8)
    texts += ["a", "bb"]
    known._deliver(*answer(texts[-10:], 10, whole=False), 2)
    assert (len(known.known), known.unbroken, known.end, known.last_length) == (22, 22, 22, 2)
    assert known._place(*answer([*texts, "c"])) == (Place(Fit.SURE, 1), False, True)
    assert known._place(*answer(texts[:15])) == (Place(Fit.STALE, 0), False, False)
    known._deliver(*answer(texts[-6:], 6, whole=False), 6, anew=True)
    assert known.end is None
    assert known.unbroken == 5  # the first line of a window may be cut


def test_a_wider_window_replaces_known_lines() -> None:
    known = Known()
    texts = [f"line {line}" for line in range(100)]
    known._deliver(*answer(texts[-10:], 10, whole=False), 10, anew=True)
    assert len(known.known) == 10
    known._deliver(*answer(texts[-50:], 50, whole=False), 0)
    assert (len(known.known), known.unbroken) == (49, 49)


def test_the_longest_recurring_block_is_known() -> None:
    known = Known()
    block = [f"row {row}" for row in range(30)]
    texts = ["head", *block]
    known._deliver(*answer(texts), 31, anew=True)
    assert known.recurred == 0
    texts += ["other head", *block]
    known._deliver(*answer(texts), 31)
    assert known.recurred == 30
    beats = Known()
    beats._deliver(*answer(["beat"] * 50), 50, anew=True)
    beats._deliver(*answer(["beat"] * 80), 30)
    assert beats.recurred == 0


def test_a_grown_line_begins_as_the_known_one() -> None:
    known = Known()
    texts = [f"line {line}" for line in range(20)]
    known._deliver(*answer([*texts, "10 %"]), 21, anew=True)
    assert known._place(*answer([*texts, "10 % 20 %"])) == (Place(Fit.SURE, 1), True, True)
    assert known._place(*answer([*texts, "10 %"])) == (Place(Fit.SURE, 0), False, True)
    known._forget_last()
    assert (known.end, known.unbroken, len(known.known)) == (20, 20, 20)


# --- windows that were not filled ---------------------------------------------------------------------------


def test_an_equal_narrower_window_is_the_log() -> None:
    seen = rows(range(100))
    probe = Probe(1024, seen, joins=False)
    assert probe.told(100, seen, behind=False, joins=False, full=0, last=False) is Found.WHOLE


def test_few_lines_need_one_more_window() -> None:
    seen = rows(range(3))
    probe = Probe(1024, seen, joins=False)
    assert probe.told(3, seen, behind=False, joins=False, full=0, last=False) == 4
    assert probe.told(4, seen, behind=False, joins=False, full=0, last=False) is Found.WHOLE


def test_missing_lines_count_those_after_a_cut() -> None:
    probe = Probe(64, rows(range(60)), joins=True)
    assert probe.told(60, rows(range(1, 60)), behind=False, joins=False, full=0, last=False) is (
        Found.NOTHING_BEHIND
    )
    probe = Probe(64, rows(range(60)), joins=True)
    # A window of 60 shows 54: one of them is the long line, and five are behind it.
    assert probe.told(60, rows(range(6, 60)), behind=False, joins=False, full=0, last=False) == 5
    behind = rows(range(200, 205))
    assert probe.told(5, behind, behind=False, joins=False, full=0, last=False) == 6
    assert probe.told(5, behind, behind=False, joins=False, full=0, last=False) is Found.ALL_BEHIND


def test_the_probe_ends_with_the_requests() -> None:
    seen = rows(range(50))
    assert Probe(64, seen, joins=False).told(
        64, rows(range(51)), behind=False, joins=False, full=0, last=True
    ) is (Found.WHOLE)
    assert Probe(64, seen, joins=False).told(
        40, rows(range(3)), behind=False, joins=False, full=0, last=True
    ) is (Found.NOTHING)
    assert Probe(64, seen, joins=False).told(
        64, rows(range(64)), behind=False, joins=False, full=0, last=False
    ) is (Found.FILLED)
    assert Probe(64, seen, joins=False).told(
        64, rows(range(64)), behind=True, joins=False, full=0, last=False
    ) is (Found.BEHIND)
    again = Probe(64, seen, joins=False)
    assert again.told(64, seen, behind=False, joins=False, full=55, last=False) == 55
    assert Probe(64, seen, joins=False).told(64, seen, behind=False, joins=False, full=0, last=False) == 50


# --- safety valves ------------------------------------------------------------------------------------------


def test_a_poll_has_a_maximum_of_fetches() -> None:
    """A server whose answers never join: at TRIES the last one is delivered, behind a mark."""
    sequence = PodLog(late=False)
    first = [f"line {line}" for line in range(100)]
    assert sequence.take(Window(first, WHOLE, True, 0.0)) is not None
    sequence.begin_poll()
    verdicts = []
    assert TRIES == 32  # a poll of 64 windows would take a minute
    for tries in range(1, TRIES + 1):
        texts = [f"{tries} is another line {line}" for line in range(16)]
        ask = 16 * tries
        verdict = sequence.take(Window(texts, ask, False, 1.0))
        assert verdict is not None
        verdicts.append(verdict)
        sequence.ask = 16 * (tries + 1)
    assert [verdict.settled for verdict in verdicts] == [False] * (TRIES - 1) + [True]
    assert verdicts[-1].new == 16
    assert verdicts[-1].gap is not None


def test_a_first_short_reply_is_probed_at_the_end() -> None:
    sequence = PodLog(late=False)
    texts = [f"line {line}" for line in range(30)]
    verdict = sequence.take(Window(texts, 256, True, 0.0, ending=True))
    assert verdict is not None
    assert not verdict.settled
    assert verdict.ask == 30
    assert verdict.held == 30
    shown = [LogLine.parse(text) for text in texts[1:]]
    verdict = sequence.take(Window([line.raw for line in shown], 30, True, 0.1, ending=True))
    assert verdict is not None
    assert sequence.behind  # one line is missing: the long one is the last
