"""The log store as a pure object: what was printed, what is kept of it, what an answer shows."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from aiofluence.simulator import ClusterOptions, ContainerLog, PodLog, PodName


def pod(seed: int = 1, *lines: str, interval: float | None = None) -> PodLog:
    log = PodLog(PodName.draw(Random(seed)), seed, interval)
    for number, line in enumerate(lines):
        log.print(line, float(number))
    return log


def shown(log: ContainerLog, now: float = 100.0, last: int | None = None, **options: Any) -> list[str]:
    """An answer, without the pods' names."""
    return [line.split("] ", 1)[1] for line in log.answer(now, last, ClusterOptions(**options))]


def three_pods() -> ContainerLog:
    log = ContainerLog(pod(3, "c0", "c1"))
    log.pods[:0] = [pod(1, "a0", "a1", "a2", "a3"), pod(2, "b0", "b1", "b2")]
    return log


def test_the_three_targets_of_last() -> None:
    log = three_pods()
    everything = ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "c0", "c1"]
    assert shown(log, last=2) == ["a2", "a3", "b1", "b2", "c0", "c1"]
    assert shown(log, last=3, last_applies="answer") == ["b2", "c0", "c1"]
    assert shown(log, last=1, last_applies="nothing") == everything
    assert shown(log) == shown(log, last=4) == shown(log, last_applies="answer") == everything


def test_windows_have_a_maximum() -> None:
    log = three_pods()
    assert shown(log, last=100, last_max=1) == shown(log, last_max=1) == ["a3", "b2", "c1"]
    assert shown(log, last=1, last_max=2) == ["a3", "b2", "c1"]
    assert shown(log, last_applies="answer", last_max=2) == ["c0", "c1"]
    assert shown(log, last=1, last_applies="nothing", last_max=1) == ["a3", "b2", "c1"]


def test_pods_can_be_told_in_the_order_of_time() -> None:
    times = ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "a3"]
    assert shown(three_pods(), pod_order="time") == times
    # A chatty pod hides a quiet one where the window is the answer's.
    assert shown(three_pods(), last=2, pod_order="time", last_applies="answer") == ["b2", "a3"]


def test_mixed_pods_keep_their_own_order() -> None:
    log = three_pods()
    answers = [shown(log, pod_order="mixed") for _ in range(50)]
    assert len({tuple(answer) for answer in answers}) > 20
    for answer in answers:
        for letter, number in (("a", 4), ("b", 3), ("c", 2)):
            assert [line for line in answer if line[0] == letter] == [f"{letter}{n}" for n in range(number)]
    assert answers == [shown(again, pod_order="mixed") for again in [three_pods()] for _ in range(50)]


def test_a_ring_keeps_the_newest_lines() -> None:
    log = ContainerLog(pod(1, "0", "1", "2", "3"))
    assert shown(log, ring=3) == ["1", "2", "3"]
    assert shown(log, last=2, ring=3) == ["2", "3"]
    log.pod.print("4", 5.0)
    assert shown(log, ring=3) == ["2", "3", "4"]
    assert log.pod.kept(5.0, ClusterOptions(ring=3)) == range(2, 5)
    assert log.pod.lines == ["0", "1", "2", "3", "4"]  # the truth forgets nothing


def test_a_rotation_shows_the_new_file_only() -> None:
    log = ContainerLog(pod(1, "0", "1"))
    log.pod.rotate(2.0)
    assert shown(log) == []
    log.pod.print("2", 3.0)
    assert shown(log, last=3) == ["2"]
    assert log.pod.lines == ["0", "1", "2"]


def test_a_log_can_rotate_by_itself() -> None:
    log = ContainerLog(pod(1))
    sizes = []
    for number in range(7):
        log.pod.print(str(number), float(number))
        sizes.append(len(shown(log, now=float(number), rotate_every=3)))
    assert sizes == [1, 2, 0, 1, 2, 0, 1]


def test_a_restart_begins_a_log_of_the_same_name() -> None:
    log = ContainerLog(pod(1, interval=1.0))
    log.start(0.0)
    before = log.answer(20.0, None, ClusterOptions())
    assert len(before) > 10
    log.pod.restart(20.5)
    after = log.answer(25.0, None, ClusterOptions())
    assert after[0] == before[0]  # it boots again
    assert 1 < len(after) < 10
    assert log.pod.lines[len(log.pod.lines) - len(after) :] == [line.split("] ", 1)[1] for line in after]


def test_a_replaced_pod_lingers_and_then_vanishes() -> None:
    log = ContainerLog(pod(1, interval=1.0))
    log.start(0.0)
    old = log.pod
    log.swap(pod(2, "new"), 10.0, linger=5.0)
    assert log.pod is not old

    def counts(now: float) -> list[int]:
        lines = log.answer(now, None, ClusterOptions())
        return [sum(p.name.pod in line for line in lines) for p in log.pods]

    at_the_swap = counts(10.0)
    assert at_the_swap[1] == 1
    assert counts(14.9)[0] > at_the_swap[0]  # its last lines still arrive
    assert counts(15.0) == [0, 1]
    printed = len(old.lines)
    log.answer(100.0, None, ClusterOptions())
    assert len(old.lines) == printed
    assert printed > counts(14.9)[0] > 0  # an older look still sees it


def test_a_replaced_pod_is_gone_at_once() -> None:
    log = ContainerLog(pod(1, "old"))
    log.swap(pod(2, "new"), 10.0)
    assert shown(log, now=10.0) == ["new"]


def test_a_long_line_ends_its_pods_answer() -> None:
    log = ContainerLog(pod(2, "b0"))
    log.pods.insert(0, pod(1, "a0", "x" * 65_536, "a2", "ä" * 32_769, "a4"))
    limit = {"line_limit": 65_536}
    assert shown(log, **limit) == ["a0", "x" * 65_536, "a2", "b0"]  # bytes, not characters
    assert shown(log, last=2, **limit) == ["b0"]
    assert shown(log, last=1, **limit) == ["a4", "b0"]  # a narrower window shows more
    assert len(shown(log)) == 6


def test_the_last_line_can_grow() -> None:
    log = ContainerLog(pod(1, "whole"))
    for second, piece in ((1.0, "50"), (2.0, " %"), (3.0, " …")):
        log.pod.print(piece, second, end="")
    assert shown(log, now=3.0) == ["whole", "50 % …"]
    assert [shown(log, now=now)[-1] for now in (0.0, 1.0, 2.5)] == ["whole", "50", "50 %"]
    log.pod.print(" done\nnext", 4.0)
    assert shown(log, now=4.0) == log.pod.lines == ["whole", "50 % … done", "next"]
    log.pod.print("", 5.0)
    assert shown(log, now=5.0)[-1] == ""  # an empty line, since nothing was growing


def test_a_growing_line_ends_before_the_next() -> None:
    log = ContainerLog(pod(1, interval=10.0))
    log.start(0.0)
    log.pod.print("half", 1.0, end="")
    assert shown(log, now=20.0)[1] == "half"
    assert len(shown(log, now=20.0)) > 2
    log.pod.print("half", 21.0, end="")
    log.pod.restart(22.0)
    log.pod.print("other", 22.0)
    assert shown(log, now=22.0)[-1] == "other"


@pytest.mark.parametrize("rate", ["empty_rate", "stale_rate"])
def test_misleading_answers_follow_rate_and_seed(rate: str) -> None:
    def wrong(seed: int) -> list[bool]:
        log = ContainerLog(pod(1, "early", "late"), seed)
        options: dict[str, Any] = {rate: 0.25, "stale_by": 99.5}
        return [shown(log, now=100.0, **options) != ["early", "late"] for _ in range(400)]

    assert 60 < sum(wrong(1)) < 140
    assert wrong(1) == wrong(1) != wrong(2)


def test_silent_and_stopped_pods_print_nothing() -> None:
    silent = ContainerLog(pod(1))
    silent.start(0.0)
    stopped = ContainerLog(pod(1, interval=1.0))
    stopped.start(0.0)
    stopped.stop(5.0)
    assert shown(silent) == []
    assert len(shown(stopped)) == len(shown(stopped, now=5.0)) > 2


def test_two_thousand_lines_a_second() -> None:
    log = ContainerLog(pod(1, interval=1 / 2000))
    log.start(0.0)
    assert len(shown(log, now=10.0, last=64)) == 64
    assert 19_000 < len(log.pod.lines) < 21_000


Deed = tuple[str, str]
DEEDS = st.lists(
    st.tuples(st.sampled_from(["print", "grow", "rotate", "restart"]), st.sampled_from("abc")), max_size=40
)
OPTIONS = st.builds(
    ClusterOptions,
    ring=st.none() | st.integers(1, 5),
    rotate_every=st.none() | st.integers(1, 7),
    last_max=st.none() | st.integers(1, 5),
)


@given(deeds=DEEDS, options=OPTIONS, last=st.none() | st.integers(1, 9))
def test_answers_are_true_or_stale(deeds: list[Deed], options: ClusterOptions, last: int | None) -> None:
    log = ContainerLog(pod(1))
    answers: list[list[str]] = []
    for second, (deed, text) in enumerate(deeds):
        if deed == "rotate":
            log.pod.rotate(float(second))
        elif deed == "restart":
            log.pod.restart(float(second))
        else:
            log.pod.print(text, float(second), "\n" if deed == "print" else "")
        answer = [line.split("] ", 1)[1] for line in log.answer(float(second), last, options)]
        assert answer == log.pod.lines[len(log.pod.lines) - len(answer) :]
        assert len(answer) <= min(last or 99, options.last_max or 99, options.ring or 99)
        answers.append(answer)
    for second, answer in enumerate(answers):
        age = len(deeds) - 1 - second
        stale = attrs.evolve(options, stale_rate=1.0, stale_by=float(age))
        assert [line.split("] ", 1)[1] for line in log.answer(len(deeds) - 1.0, last, stale)] == answer
