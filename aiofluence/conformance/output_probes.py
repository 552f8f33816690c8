"""Probes of logs and events: their forms, orders, windows, and what is left after the end.

The comparisons serve the levels that deploy, too.
"""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Any, Final

from ..models.values import Kind
from .probe import Bench, Level, Probe, first, probe


@probe(
    Level.FREE,
    "logs-gone",
    "log-form",
    "event-form",
    "event-order",
    "folded",
    "forgotten",
    "no-exit-codes",
    "empty-answers",
    "last-max",
    "last-per-pod",
    "racing-pods",
)
async def output(bench: Bench) -> None:
    """Read logs and events of the account's containers."""
    notes, account = bench.notes, bench.account
    ended = [detail["id"] for detail in account.with_status("ENDED", kind=Kind.CONTAINER)]
    logs = [account.logs[id] for id in ended if id in account.logs]
    if logs:
        kept = any(logs)
        answer = "kept" if kept else "error" if all(log is None for log in logs) else "empty"
        notes.compare("logs-gone", "empty", answer)
    lines = [line for log in account.logs.values() for line in log or () if isinstance(line, str)]
    compare_lines(bench, lines)
    for events in account.events.values():
        compare_events(bench, [event for event in events or () if isinstance(event, str)])
    _forgotten(bench, ended)
    if account.answers:
        texts = [len(answer or ()) for answer in account.answers]
        if any(texts):
            notes.compare("empty-answers", "never", "never" if all(texts) else "at times")
        whole, last = max(texts), first(len(log or ()) for id, log in account.logs.items() if id not in ended)
        if last is not None and whole > (last or 0):
            notes.undecided("last-max", "the log is too short")


def compare_lines(bench: Bench, lines: list[str]) -> None:
    """Compare the form of log lines."""
    forms = {_form(line) for line in lines}
    if forms:
        bench.notes.compare("log-form", ["[pod] text"], sorted(forms))


def _form(line: str) -> str:
    if re.match(r"\[[^\]]+\]: ", line):
        return "[pod]: text"
    return "[pod] text" if re.match(r"\[[^\]]+\]( |$)", line) else "other"


_EVENT: Final = re.compile(r"\[([^\]]+)\]: \[(Normal|Warning)\] \[(\w+)\] (\[(\w+)\] )?.*", re.DOTALL)


def compare_events(bench: Bench, events: list[str]) -> None:
    """Compare the form, the order and the repetitions of a container's events."""
    found = [_EVENT.fullmatch(event) for event in events]
    if not found:
        return
    if not all(found):
        bench.notes.compare("event-form", "with kind", "other")
        return
    matches = [match for match in found if match is not None]
    kinds = {match[5] is not None for match in matches}
    # Not every message begins with a bracket, so one event without a kind is proof.
    bench.notes.compare("event-form", "with kind", "with kind" if kinds == {True} else "without kind")
    objects = [match[1] for match in matches]
    if len(set(objects)) > 1:
        bench.notes.compare(
            "event-order", "by object", "by object" if objects == sorted(objects) else "other"
        )
    if len(set(events)) < len(events):
        bench.notes.compare("folded", "folded", "repeated")
    text = " ".join(events).lower()
    codes = re.search(r"exit(ed)? (with )?code|exitcode|restart count|restarts?:", text) is not None
    bench.notes.compare("no-exit-codes", "hidden", "shown" if codes else "hidden")


def _forgotten(bench: Bench, ended: list[str]) -> None:
    """Compare the events of containers that ended over an hour before the service's present time."""
    transport = bench.asker.session._transport
    now = transport.clock.at(asyncio.get_running_loop().time())
    for detail in bench.account.with_status("ENDED", kind=Kind.CONTAINER):
        age = seconds_between(detail.get("updated_at"), None if now is None else now.isoformat())
        if age is not None and age > _HOUR and detail["id"] in bench.account.events:
            empty = not bench.account.events[detail["id"]]
            bench.notes.compare("forgotten", "after an hour", "after an hour" if empty else "later")
            return


_HOUR: Final = 3700.0


def seconds_between(earlier: Any, later: Any) -> float | None:
    """Return the seconds between two ISO 8601 times; None if one is no time."""
    try:
        return (datetime.fromisoformat(str(later)) - datetime.fromisoformat(str(earlier))).total_seconds()
    except (ValueError, TypeError):
        return None


OUTPUT_PROBES: Final[tuple[Probe, ...]] = (output,)
