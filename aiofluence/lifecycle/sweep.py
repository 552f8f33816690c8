"""Sweeping: finding, and ending, what an earlier run left behind.

Looks at the journal and at the lists; ends only through the custodian, and only what it was asked to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import attrs

from ..errors import ConfigError, FluenceError
from ..models.instances import InstanceRef, Summary
from ..models.values import Kind
from ..resources.instances import Instances
from ..transport import ServerClock
from .custody import Custodian
from .deploy import LOOK_EVERY, Deployer
from .journal import ENDED, NOTHING, Intent, Journal


@attrs.frozen
class SweepReport:
    """What a sweep found and did.

    Attributes:
        found: live instances that fit.
        ended: those of them that were seen gone; none in a dry run.
        left: those that still run: all of them in a dry run, else those that could not be ended.
        unsettled: names that, says the journal, were being deployed, and that no list shows. After a dry run
            they may still show up; otherwise the sweep has waited as long as a deploy would.
    """

    found: tuple[InstanceRef, ...] = ()
    ended: tuple[InstanceRef, ...] = ()
    left: tuple[InstanceRef, ...] = ()
    unsettled: tuple[str, ...] = ()


class Sweeper:
    """Sweeps for one session."""

    def __init__(
        self,
        resources: Mapping[Kind, Instances[Any, Any, Any]],
        custodian: Custodian,
        journal: Journal,
        clock: ServerClock,
        deployer: Deployer,
    ) -> None:
        self._resources: Final = resources
        self._custodian = custodian
        self._journal = journal
        self._clock = clock
        self._settle = deployer.policy.settle
        self._owns = deployer.owns

    async def __call__(
        self,
        prefix: str | None,
        older_than: timedelta | float | None,
        dry_run: bool,
        only: Collection[InstanceRef] | None = None,
    ) -> SweepReport:
        """See `Session.sweep`.

        Raises:
            FluenceError: as `Session.sweep`.
        """
        if prefix is None and older_than is None and self._journal.path is None:
            raise ConfigError("a sweep needs a journal, a prefix or older_than: it never means everything")
        if prefix == "":
            raise ConfigError("an empty prefix means every instance; leave it out, or name one")
        age = _age(older_than)
        intents = self._journal.left_behind()
        loop = asyncio.get_running_loop()
        settled = loop.time() + self._settle
        while True:
            asked = loop.time()
            rows = await self._rows()
            made, missing = _match(intents, rows, self._journal)
            if dry_run or not missing or asked >= settled:
                break
            await asyncio.sleep(min(LOOK_EVERY, max(0.1, settled - loop.time())))
        found = [ref for refs in made.values() for ref in refs]
        if prefix is not None or age is not None:
            found += [row.ref for row in rows if self._fits(row, prefix, age)]
        refs = tuple(ref for ref in dict.fromkeys(found) if only is None or ref in only)
        if dry_run:
            return SweepReport(refs, (), refs, tuple(intent.name for intent in missing))
        outcomes = await asyncio.gather(*map(self._custodian.see_gone, refs), return_exceptions=True)
        left = []
        for ref, outcome in zip(refs, outcomes, strict=True):
            if isinstance(outcome, FluenceError):
                left.append(ref)
            elif outcome is not None:
                raise outcome
        ended = tuple(ref for ref in refs if ref not in left)
        for intent in intents:
            if intent in missing or all(ref in ended for ref in made.get(intent, ())):
                self._journal.close_intent(intent, NOTHING if intent in missing else ENDED)
        return SweepReport(refs, ended, tuple(left), tuple(intent.name for intent in missing))

    async def _rows(self) -> list[Summary]:
        lists: Sequence[Sequence[Summary]] = await asyncio.gather(
            *(resource.look_at_all() for resource in self._resources.values())
        )
        return [row for rows in lists for row in rows if not self._owns(row.id)]

    def _fits(self, row: Summary, prefix: str | None, age: timedelta | None) -> bool:
        now = self._clock.at(asyncio.get_running_loop().time())
        return (
            not row.status.final
            and (prefix is None or row.name.startswith(prefix))
            and (age is None or (now is not None and now - row.created_at >= age))
        )


def _age(older_than: timedelta | float | None) -> timedelta | None:
    if older_than is None:
        return None
    try:
        age = older_than if isinstance(older_than, timedelta) else timedelta(seconds=older_than)
    except (ValueError, OverflowError):  # NaN, or more than time has
        age = timedelta(-1)
    if age < timedelta(0):
        raise ConfigError(f"older_than is a timedelta or a number of seconds, not {older_than!r}")
    return age


def _match(
    intents: Sequence[Intent], rows: Sequence[Summary], journal: Journal
) -> tuple[dict[Intent, list[InstanceRef]], list[Intent]]:
    """What open intents have made and may live, by intent, and the intents for which there is no row."""
    final = {row.id for row in rows if row.status.final}
    known = {intent.id for intent in intents}
    made: dict[Intent, list[InstanceRef]] = {}
    missing = []
    for intent in intents:
        if intent.ref is not None:
            if intent.id not in final:  # a list may be slow to show it
                made[intent] = [intent.ref]
            continue
        taken = known | final | journal.handed_over(intent.kind, intent.name)
        refs = [row.ref for row in rows if row.id not in taken and intent.may_have_made(row)]
        if refs:
            made[intent] = refs
        else:
            missing.append(intent)
    return made, missing
