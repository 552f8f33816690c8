"""Services that cap or refuse `last`, and lines that cannot be read: the tail goes on all the same."""

from __future__ import annotations

from typing import Any

import pytest

from aiofluence import DecodeError, GapReason, InvalidRequestError, LogGap, RefusedError
from aiofluence.tail.windows import Windows

from ..harness import VIRTUAL
from .service import REF, LogService, follow, gaps, session, texts

BURST = [
    *((0.5 * number, f"step {number}") for number in range(100)),
    *((60 + number * 1e-4, f"burst {number}") for number in range(700)),
    *((61.0 + number, f"after {number}") for number in range(300)),
]
ENDS = 420.0


@pytest.fixture
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.mark.parametrize(("limit", "refusal"), [(500, 422), (100, 422), (20, 422), (100, 400), (100, 413)])
async def test_refused_windows_lead_to_the_whole_log(limit: int, refusal: int) -> None:
    service = LogService(BURST, ENDS, refused_above=limit, refusal=refusal)
    got = await follow(service)
    assert texts(got) == [text for _, text in BURST]
    assert gaps(got) == []
    refused = [last for _, last in service.asked if last is not None and last > limit]
    assert len(refused) <= 8
    assert len(refused) == len(set(refused))  # none is asked for twice


@pytest.mark.parametrize("limit", [500, 300, 77])
async def test_the_widest_answered_window_is_found(limit: int) -> None:
    service = LogService(BURST, ENDS, refused_above=limit, whole_refused=True)
    got = await follow(service)
    assert texts(got)[-300:] == [f"after {number}" for number in range(300)]
    bursts = [text for text in texts(got) if text.startswith("burst")]
    newest = [f"burst {number}" for number in range(700)][-limit + 10 :]
    assert bursts[-len(newest) :] == newest
    assert len(gaps(got)) == 1
    assert max(last for _, last in service.asked if last is not None and last <= limit) == limit
    assert len([last for _, last in service.asked if last is None or last > limit]) <= 20
    assert len(service.asked) < 500


async def test_a_refused_whole_log_costs_no_line() -> None:
    service = LogService(BURST, ENDS, whole_refused=True)
    got = await follow(service)
    assert texts(got) == [text for _, text in BURST]
    assert gaps(got) == []


@pytest.mark.parametrize("cap", [500, 200])
async def test_a_silent_cap_is_found_without_last(cap: int) -> None:
    log = [
        (10 + 10 * burst + 1e-4 * number, f"burst {burst} line {number}")
        for burst in range(8)
        for number in range(700)
    ]
    got = await follow(LogService(log, 100.0, cap=cap))
    assert texts(got) == [text for _, text in log]
    assert gaps(got) == []


async def test_a_loss_by_a_cap_is_marked() -> None:
    got = await follow(LogService(BURST, ENDS, cap=500, cap_all=True))
    assert texts(got)[-500:] == [text for _, text in BURST][-500:]
    assert len(texts(got)) >= 700
    assert len(gaps(got)) == 1


# --- what a refusal is about --------------------------------------------------------------------------------


REFUSED = InvalidRequestError("no", status=422)


def test_a_refusal_of_all_is_not_about_windows() -> None:
    windows = Windows()
    asked: list[int | None] = [windows.nearest(1024, 0.0)]
    while windows.refuses(asked[-1], REFUSED, 0.0):
        asked.append(windows.nearest(1024, 0.0))
    assert asked == [1024, None, 16]
    assert windows.nearest(1024, 0.0) == 1024  # it is forgotten
    assert windows.nearest(None, 0.0) is None


def test_an_answered_window_is_not_refused() -> None:
    windows = Windows()
    windows.answered(256)
    assert not windows.refuses(256, REFUSED, 0.0)
    assert not windows.refuses(100, REFUSED, 0.0)
    assert windows.nearest(256, 0.0) == 256
    assert windows.refuses(257, REFUSED, 0.0)
    assert windows.nearest(257, 0.0) is None
    assert windows.nearest(256, 0.0) == 256


def test_the_widest_window_is_bisected() -> None:
    windows = Windows()
    asked: list[int | None] = []
    windows.answered(16)
    for _ in range(40):
        last = windows.nearest(4096, 0.0)
        asked.append(last)
        if last is None or last > 1000:
            assert windows.refuses(last, REFUSED, 0.0)
        else:
            windows.answered(last)
    assert asked[:4] == [4096, None, 16, 2056]
    assert asked[-1] == 1000
    assert windows.is_widest(1000)
    assert not windows.is_widest(999)
    assert not windows.is_widest(None)
    refused = [last for last in asked if last is None or last > 1000]
    assert len(refused) == len(set(refused))


def test_refusals_are_forgotten_later_and_later() -> None:
    windows = Windows()
    windows.answered(16)
    assert windows.refuses(1024, REFUSED, 100.0)
    windows.answered(None)
    assert windows.nearest(1024, 699.9) is None
    assert windows.nearest(1024, 700.0) == 1024
    assert windows.refuses(1024, REFUSED, 700.0)
    assert windows.nearest(1024, 1899.9) is None
    assert windows.nearest(1024, 1900.0) == 1024


@pytest.mark.parametrize(
    ("error", "about"),
    [
        (InvalidRequestError("no", status=422), True),
        (RefusedError("no", status=400), True),
        (DecodeError("too large"), True),
        (DecodeError("a gateway's page", status=404), False),
    ],
)
def test_which_errors_are_about_the_window(error: Any, about: bool) -> None:
    windows = Windows()
    windows.answered(16)
    assert windows.refuses(4096, error, 0.0) is about
    assert windows.nearest(4096, 0.0) == (None if about else 4096)


# --- lines that cannot be read ------------------------------------------------------------------------------

LINES = [(float(number), f"line {number}") for number in range(200)]


@pytest.mark.parametrize(
    ("rows", "raw", "shown"),
    [
        ({}, {b'line 7"': b'caf\xe9"'}, "[pod-1] caf\ufffd"),
        ({}, {b'line 7"': b'bell \x07"'}, "[pod-1] bell \x07"),
        ({}, {b'line 7"': b'\\ud83d alone"'}, "[pod-1] \ufffd alone"),
        ({"line 7": None}, {}, "null"),
        ({"line 7": 7}, {}, "7"),
        ({"line 7": {"text": "é"}}, {}, '{"text": "é"}'),
        ({"line 7": ["a"]}, {}, '["a"]'),
    ],
    ids=["bad byte", "control character", "lone surrogate", "null", "number", "object", "array"],
)
async def test_an_unreadable_line_costs_no_other(
    rows: dict[str, Any], raw: dict[bytes, bytes], shown: str
) -> None:
    got = await follow(LogService(LINES, 230.0, rows=rows, raw=raw))
    assert gaps(got) == []
    assert [str(item) for item in got] == [
        shown if text == "line 7" else f"[pod-1] {text}" for _, text in LINES
    ]
    for item in got:
        str(item).encode()  # so that print() cannot raise


async def test_a_list_that_is_null_is_empty() -> None:
    service = LogService([], 60.0, raw={b"[]": b"null"})
    assert await follow(service) == [LogGap(GapReason.POD_GONE, 0, None)]  # it may be gone as well
    async with session(service) as fluence:
        assert await fluence.containers.logs(REF.id) == []
        assert await fluence.containers.events(REF.id) == []
        service.raw = {b"[]": b'{"logs": []}'}
        with pytest.raises(DecodeError):
            await fluence.containers.logs(REF.id)
