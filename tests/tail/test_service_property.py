"""Services that cap or refuse `last`, with lines among the others that cannot be read: drawn at random.

Through a whole session, so that each byte of a reply passes the decoder. Virtual time.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from aiofluence import LogGap, LogLine
from aiofluence.simulator import run_virtual

from .service import LogService, follow

# A row of the JSON array in place of a line; bytes stand in the body as they are.
odd = st.sampled_from((None, 7, 1.5, True, {"text": "é"}, ["a"], b"caf\xe9", b"bell \x07", b"\\ud83d alone"))
spurts = st.lists(
    st.tuples(st.sampled_from((0.0, 0.5, 3.0, 20.0, 100.0)), st.sampled_from((1, 3, 17, 60, 250))),
    min_size=1,
    max_size=7,
)
limit = st.sampled_from((20, 77, 100, 500, 1000))
limits = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"refused_above": limit, "refusal": st.sampled_from((400, 413, 422))}),
    st.fixed_dictionaries({"refused_above": limit, "whole_refused": st.just(True)}),
    st.just({"whole_refused": True}),
    st.fixed_dictionaries({"cap": limit}),
    st.fixed_dictionaries({"cap": limit, "cap_all": st.just(True)}),
)


def shown(row: Any, number: int) -> str:
    """The line that a row becomes: what cannot be decoded is replaced, what is no string is shown as JSON."""
    if isinstance(row, bytes):
        return f"[pod-1] {number} {row.decode(errors='replace')}".replace("\\ud83d", "\ufffd")
    return json.dumps(row, ensure_ascii=False)


def is_told(items: list[LogLine | LogGap], truth: list[str]) -> bool:
    """Check that the lines between two marks follow one another in the truth, and nothing else is missing."""
    pieces: list[list[str]] = [[]]
    for item in items:
        if isinstance(item, LogGap):
            pieces.append([])
        else:
            pieces[-1].append(item.raw)
    at = len(pieces[0])
    if truth[:at] != pieces[0]:
        return False
    for piece in pieces[1:]:
        at = next(
            (n for n in range(at, len(truth) + 1) if truth[n : n + len(piece)] == piece), len(truth) + 1
        )
        at += len(piece)
    return at == len(truth) or (at < len(truth) and not pieces[-1])


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(spurts, limits, st.dictionaries(st.integers(0, 400), odd, max_size=12))
def test_any_use_of_last_delivers_or_marks(
    life: list[tuple[float, int]], habits: dict[str, Any], strange: dict[int, Any]
) -> None:
    log: list[tuple[float, str]] = []
    at = 5.0
    for pause, lines in life:
        at += pause
        log += [(at, f"line {len(log) + number};") for number in range(lines)]
    strange = {number: row for number, row in strange.items() if number < len(log)}
    rows: dict[str, Any] = {}
    raw: dict[bytes, bytes] = {}
    for number, row in strange.items():
        if isinstance(row, bytes):
            raw[f"line {number};".encode()] = f"{number} ".encode() + row
        else:
            rows[f"line {number};"] = row
    truth = [
        shown(strange[number], number) if number in strange else f"[pod-1] {text}"
        for number, (_, text) in enumerate(log)
    ]
    service = LogService(log, at + 60.0, rows=rows, raw=raw, **habits)
    got = run_virtual(follow(service))
    hides = habits.get("cap_all", False) or {"refused_above", "whole_refused"} <= habits.keys()
    if not hides:
        assert [item.raw for item in got if isinstance(item, LogLine)] == truth
        assert [item for item in got if isinstance(item, LogGap)] == []
    # A log whose first reply is cut by a cap that no reply mentions looks like a shorter log (docs/tails.md).
    assert is_told(got, truth[service.hidden if habits.get("cap_all") else 0 :])


@pytest.mark.parametrize("odd_rows", [{0: 7}, {0: ["a"], 1: None}])
def test_unreadable_first_lines_come_once(odd_rows: dict[int, Any]) -> None:
    """A poll shows only the lines that name no pod. The next poll shows the pod."""
    log = [(3.0, "line 0;"), *((103.0, f"line {number};") for number in range(1, 61))]
    service = LogService(log, 160.0, rows={f"line {number};": row for number, row in odd_rows.items()})
    got = run_virtual(follow(service))
    first = [json.dumps(row) for row in odd_rows.values()]
    assert [item.raw for item in got if isinstance(item, LogLine)] == [
        *first,
        *(f"[pod-1] line {number};" for number in range(len(first), 61)),
    ]
    assert not any(isinstance(item, LogGap) for item in got)
