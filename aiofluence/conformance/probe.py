"""The registry of probes, and the state that the probes of one run share.

A probe is an async function that compares claims. `PROBES` lists all of them, in the order in which a run
executes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Any, Final, TypeAlias

import attrs

from ..models.plans import Offer
from .account import Account
from .asking import Asker
from .finding import Notes


class Level(StrEnum):
    """Price of a run: each level includes the ones before it."""

    FREE = "free"
    REFUNDED = "refunded"
    PAID = "paid"

    @property
    def included(self) -> tuple[Level, ...]:
        """All levels up to this level, cheapest first."""
        levels = tuple(Level)
        return levels[: levels.index(self) + 1]


@attrs.define
class Bench:
    """State that the probes of one run share.

    Attributes:
        asker: sender of raw requests.
        notes: findings so far.
        account: documents of the account, fetched once.
        offer: cheapest container offer, for the levels that deploy.
        vm: cheapest offer of a VM.
        say: prints a line about the progress.
    """

    asker: Asker
    notes: Notes
    account: Account
    offer: Offer | None
    vm: Offer | None
    say: Callable[[str], None]


Run: TypeAlias = Callable[[Bench], Awaitable[None]]


@attrs.frozen
class Probe:
    """A few requests that decide claims.

    Attributes:
        name: unique name.
        level: level from which it runs.
        claims: ids of the claims that it decides.
        requests: number of requests that it usually sends.
        run: notes a finding for each claim, or leaves it undecided.
    """

    name: str
    level: Level
    claims: tuple[str, ...]
    requests: int
    run: Run

    @property
    def label(self) -> str:
        """Text that names the probe in the table of claims: `free:keys`."""
        return f"{self.level}:{self.name}"


def probe(level: Level, *claims: str, requests: int = 0) -> Callable[[Run], Probe]:
    """Make a probe of an async function. Its name is the function's, with `-` for `_`."""

    def make(run: Run) -> Probe:
        name = getattr(run, "__name__", "").replace("_", "-")
        return Probe(name, level, claims, requests, run)

    return make


def requests_of(probes: Iterable[Probe]) -> int:
    """Return the number of requests that probes usually send."""
    return sum(each.requests for each in probes)


NOT_SHOWN: Final = "the account has nothing that shows it"


def first(rows: Iterable[Any]) -> Any:
    """Return the first element, or None."""
    return next(iter(rows), None)
