"""Log lines, cluster events and log gaps, parsed from the strings that the service sends.

Parsing only. A line in an unknown format is kept raw. The package `tail` follows a log over time, and inserts
a `LogGap` where lines may be missing.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Self

import attrs

from ..display.table import encodable
from .values import EventType

# The guide prints `[pod] text`, the console `[pod]: text`. A pod's name has no blanks, brackets or quotes.
_LOG = re.compile(r"\[([^\]\s\"]+)\]:? ?(.*)", re.DOTALL)
# `[object]: [Normal] [Scheduled] [Pod] message`. The guide's examples lack `[Kind]`.
_EVENT = re.compile(
    r"\[([^\]]+)\]:? +\[(Normal|Warning)\] +\[([^\]\s]+)\] +(?:\[([A-Za-z]+)\] +)?(.*)", re.DOTALL
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def _printable(raw: str) -> str:
    """Replace lone surrogates in `raw`. JSON can hold them, but UTF-8 cannot, so no stream can print them."""
    return raw if raw.isascii() else _SURROGATE.sub("\ufffd", raw)


@attrs.frozen
class LogLine:
    """A line of a container's output, stdout and stderr mixed. The service sends no time with it.

    Attributes:
        raw: the line as the service sent it, with U+FFFD in place of characters that are not Unicode text.
        pod: the pod that wrote the line; None when the line names no pod.
        text: the line without the pod.
        grown: in a tail: True if this line completes the unfinished line that the tail delivered before.
    """

    raw: str
    pod: str | None
    text: str
    grown: bool = False

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Parse `"[pod] text"` or `"[pod]: text"`. Any other line is all text."""
        raw = _printable(raw)
        match = _LOG.fullmatch(raw)
        return cls(raw, match[1], match[2]) if match else cls(raw, None, raw)

    def __str__(self) -> str:
        return encodable(self.raw)


class GapReason(StrEnum):
    """Reason for which a tail cannot guarantee every line."""

    OVERFLOW = "overflow"
    """The container wrote more lines than the service returns, or a line that is too long for it."""

    RESET = "reset"
    """The log has started anew: a restart under the same name, or a rotation."""

    UNCONFIRMED = "unconfirmed"
    """The next lines seem to follow the previous ones, but the overlap is too short to be sure."""

    LATE_START = "late-start"
    """A pod appeared whose first lines could not be fetched."""

    POD_GONE = "pod-gone"
    """The pod is no longer listed. The tail may have missed its last lines."""

    REPEATS = "repeats"
    """The same lines repeat, and no other line helps to count them. There may have been more of them."""


@attrs.frozen
class LogGap:
    """A gap in a tail: lines may be missing here.

    Attributes:
        reason: cause of the gap.
        at_least: number of lines that are certainly lost; 0 when possibly none is.
        pod: pod of the lines; None for lines that name no pod.
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
    """An event of the cluster. The service sends no time with it, and orders events by object, not by time.

    Attributes:
        raw: the event as the service sent it, with U+FFFD in place of characters that are not Unicode text.
        object: name of the object that the event is about.
        type: Normal or Warning.
        reason: such as `Scheduled`, `Pulled`, `BackOff`.
        kind: such as `Pod`; None when the line names no kind.
        message: the rest of the line, or the whole line in an unknown format (then the others are None).
    """

    raw: str
    object: str | None
    type: EventType | None
    reason: str | None
    kind: str | None
    message: str

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Parse `"[object]: [type] [reason] [kind] message"`, with or without the kind."""
        raw = _printable(raw)
        match = _EVENT.fullmatch(raw)
        if match is None:
            return cls(raw, None, None, None, None, raw)
        return cls(raw, match[1], EventType(match[2]), match[3], match[4], match[5])

    def __str__(self) -> str:
        return encodable(self.raw)
