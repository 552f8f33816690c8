"""New events as a multiset difference: against a cluster whose truth is known, with repeats and ageing."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, strategies as st

from aiofluence import Event
from aiofluence.tail.events import NewEvents


def event(obj: str, what: str) -> Event:
    return Event.parse(f"[{obj}]: [Normal] [{what}] [Pod] it {what}")


A, B, C = event("pod-a", "Pulling"), event("pod-b", "Pulling"), event("pod-c", "Pulling")


def test_new_ones_are_found_wherever_they_stand() -> None:
    new = NewEvents()
    assert new.take([B], 0) == [B]
    assert new.take([A, B, C], 1) == [A, C]
    assert new.take([A, B, C], 2) == []


def test_repeats_in_equal_words_are_counted() -> None:
    new = NewEvents()
    assert new.take([A, A, B], 0) == [A, A, B]
    assert new.take([A, A, A, B], 1) == [A]


def test_a_forgotten_event_is_new_again() -> None:
    new = NewEvents()
    new.take([A], 0)
    new.take([A, B], 10)
    assert new.take([B], 20) == []  # A, the oldest, aged out
    assert new.take([A, B], 30) == [A]


def test_an_empty_or_old_reply_repeats_nothing() -> None:
    new = NewEvents()
    new.take([A], 0)
    new.take([A, B, C], 10)
    assert new.take([], 20) == []
    assert new.take([A, B, C], 30) == []
    assert new.take([A], 40) == []
    assert new.take([A, B, C], 50) == []


def test_what_stays_away_is_forgotten_in_the_end() -> None:
    new = NewEvents()
    new.take([A, B], 0)
    new.take([], 10)
    new.take([], 131)
    assert new.take([A], 140) == [A]


TEXTS = [event(obj, what) for obj in "xyz" for what in ("Pulling", "Pulled", "BackOff")]
HAPPENINGS = st.lists(st.tuples(st.floats(0, 40), st.sampled_from(TEXTS)), max_size=60)


@given(HAPPENINGS, st.lists(st.floats(1, 15), min_size=20, max_size=80))
def test_each_event_comes_once(happenings: list[tuple[float, Event]], gaps: list[float]) -> None:
    """Never twice; and lost only what came back in equal words within two minutes and a poll of vanishing."""
    at, cluster = 0.0, []
    for gap, what in happenings:
        at += gap
        cluster.append((at, what))
    ttl, now, new = 90.0, 0.0, NewEvents()
    told: Counter[str] = Counter()
    truth: Counter[str] = Counter()
    excused: Counter[str] = Counter()
    before: Counter[str] = Counter()
    vanished: dict[str, float] = {}
    for gap in gaps:
        now += gap
        listed = [(at, what) for at, what in cluster if now - ttl < at <= now]
        answer = [what for _, what in sorted(listed, key=lambda one: (one[1].object or "", one[0]))]
        present = Counter(what.raw for what in answer)
        for raw in before - present:
            vanished[raw] = now
        for raw, count in (present - before).items():
            if now - gap - vanished.get(raw, -1000.0) <= 120:  # by the last poll it was still waited for
                excused[raw] += count
        truth += present - before
        before = present
        told += Counter(what.raw for what in new.take(answer, now))
        assert told <= truth
        assert truth - told <= excused


@given(
    st.lists(st.floats(0.1, 40), max_size=40),
    st.lists(st.tuples(st.floats(1, 15), st.sampled_from(["fresh", "fresh", "old", "empty"])), min_size=20),
)
def test_bad_replies_lose_and_repeat_nothing(gaps: list[float], polls: list[tuple[float, str]]) -> None:
    at, cluster = 0.0, []
    for number, gap in enumerate(gaps):
        at += gap
        cluster.append((at, event("xyz"[number % 3], f"No{number}")))
    now, new, asked = 0.0, NewEvents(), 0.0
    told: Counter[str] = Counter()
    for gap, state in [*polls, (10.0, "fresh")]:
        now += gap
        if state == "fresh":
            asked = now
        elif now - asked > 100:  # no replica is that far behind for that long
            continue
        seen = {"fresh": now, "old": asked - 20, "empty": -1.0}[state]
        listed = sorted((what.object or "", at, what) for at, what in cluster if at <= seen)
        told += Counter(what.raw for what in new.take([what for *_, what in listed], now))
    assert told == Counter(what.raw for at, what in cluster if at <= now)
