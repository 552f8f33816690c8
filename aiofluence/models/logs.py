"""What a container says: log lines and cluster events, parsed from the strings the service sends.

Parsing only; a line that fits no known form is kept raw. Following a log over time is `tail`'s work; what
it has to say where lines may be missing is `LogGap`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Self

import attrs

from ..display.table import encodable
from .values import EventType

__all__ = ["Event", "GapReason", "LogGap", "LogLine"]

# The guide prints `[pod] text`, the console `[pod]: text`; a pod's name holds neither blanks nor brackets.
_LOG = re.compile(r"\[([^\]\s]+)\]:? ?(.*)", re.DOTALL)
# `[object]: [Normal] [Scheduled] [Pod] message`; the guide's examples lack `[Kind]`.
_EVENT = re.compile(
    r"\[([^\]]+)\]:? +\[(Normal|Warning)\] +\[([^\]\s]+)\] +(?:\[([A-Za-z]+)\] +)?(.*)", re.DOTALL
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def _printable(raw: str) -> str:
    """`raw` without lone surrogates, which JSON can hold and UTF-8 cannot: no stream would print them."""
    return raw if raw.isascii() else _SURROGATE.sub("\ufffd", raw)


@attrs.frozen
class LogLine:
    """One line of a container's output, stdout and stderr mixed; the service sends no time with it.

    Attributes:
        raw: the line as it came; what is no text in Unicode is replaced by U+FFFD.
        pod: the pod that wrote it, None when the line names none.
        text: the line without the pod.
        grown: in a tail: the line delivered before this one was not finished; this is the whole of it.
    """

    raw: str
    pod: str | None
    text: str
    grown: bool = False

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Read `"[pod] text"` or `"[pod]: text"`; anything else is all text."""
        raw = _printable(raw)
        match = _LOG.fullmatch(raw)
        return cls(raw, match[1], match[2]) if match else cls(raw, None, raw)

    def __str__(self) -> str:
        return encodable(self.raw)


class GapReason(StrEnum):
    """Why a tail cannot vouch for having every line."""

    OVERFLOW = "overflow"
    """More came than the service shows, or a line too long for it to show."""

    RESET = "reset"
    """The log has begun anew: a restart under the same name, or a rotation."""

    UNCONFIRMED = "unconfirmed"
    """What follows seems to join what came before, but too few lines overlap to be sure."""

    LATE_START = "late-start"
    """A pod turned up whose first lines could not be had."""

    POD_GONE = "pod-gone"
    """The pod is no longer listed; what it wrote at the very end may never have been seen."""

    REPEATS = "repeats"
    """The same lines over and over, and nothing left to count them by: there may have been more of them."""


@attrs.frozen
class LogGap:
    """Stands in a tail where lines may be missing.

    Attributes:
        reason: what happened.
        at_least: how many lines are certainly lost; 0 when perhaps none is.
        pod: whose lines, None for lines that name no pod.
    """

    reason: GapReason
    at_least: int = 0
    pod: str | None = None

    def __str__(self) -> str:
        whose = f"[{encodable(self.pod)}] " if self.pod else ""
        lost = f"at least {self.at_least} lines are missing" if self.at_least else "lines may be missing"
        return f"{whose}-- {lost}: {self.reason} --"


@attrs.frozen
class Event:
    """One event of the cluster; the service sends no time with it, and orders them by object, not time.

    Attributes:
        raw: the event as it came; what is no text in Unicode is replaced by U+FFFD.
        object: name of the object it is about.
        type: Normal or Warning.
        reason: such as `Scheduled`, `Pulled`, `BackOff`.
        kind: such as `Pod`; None where the line names none.
        message: the rest, or the whole line when it fits no known form (then the others are None).
    """

    raw: str
    object: str | None
    type: EventType | None
    reason: str | None
    kind: str | None
    message: str

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Read `"[object]: [type] [reason] [kind] message"`, with or without the kind."""
        raw = _printable(raw)
        match = _EVENT.fullmatch(raw)
        if match is None:
            return cls(raw, None, None, None, None, raw)
        return cls(raw, match[1], EventType(match[2]), match[3], match[4], match[5])

    def __str__(self) -> str:
        return encodable(self.raw)
