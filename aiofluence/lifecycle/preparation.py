"""Everything that a launch checks before its first deploy: names that are live already, plans, prices.

Sends one LIST a kind, the catalogue when there is a price limit, and a GET for the price of each instance
that is adopted. Deploys and ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from ..models.catalog import Offer
from ..models.instances import Summary
from ..models.values import Kind
from ..protocol import Lane
from ..resources.catalog import Plans, read_money
from .arguments import refuse
from .job import Job
from .launch import Launcher
from .outage import Outage
from .terms import Budget, Terms

log: Final = logging.getLogger("aiofluence")


class Preparation:
    """Prepares the jobs of one launch."""

    def __init__(
        self, launcher: Launcher, plans: Plans, jobs: Sequence[Job], terms: Terms, outage: Outage
    ) -> None:
        self._launcher = launcher
        self._plans = plans
        self._jobs = jobs
        self._terms = terms
        self._outage = outage

    async def __call__(self) -> Budget:
        """Find the live instances of the jobs, choose plans that are for sale, and book all prices.

        Raises:
            ConfigError: names are live already and `adopt` is false, plans are not for sale, or the whole
                is over `max_hourly`.
            FluenceError: a LIST, the catalogue or a price did not come.
        """
        problems = [*self._match(await self._find_live())]
        ceiling = read_money(self._terms.max_hourly)
        budget = Budget()
        if ceiling is not None:
            budget = Budget(await self._outage.outlast(self._offers), ceiling)
            await self._book_live(budget)
            problems += self._book_rest(budget)
        refuse(problems)
        return budget

    async def _find_live(self) -> dict[tuple[Kind, str], list[Summary]]:
        """Live instances of the jobs' names, oldest first; one LIST a kind."""
        kinds = {job.spec.kind for job in self._jobs}
        lists = await asyncio.gather(*(self._outage.outlast(partial(self._list, kind)) for kind in kinds))
        found: dict[tuple[Kind, str], list[Summary]] = {}
        for row in (row for rows in lists for row in rows):
            # An instance that this session is ending is no obstacle: the deployer knows its id.
            if not row.status.final and not self._launcher.custodian.holds(row.ref):
                found.setdefault((row.kind, row.name), []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: (row.created_at, row.id))
        return found

    async def _list(self, kind: Kind) -> Sequence[Summary]:
        rows: Sequence[Summary] = await self._launcher.resources[kind].look_at_all(lane=Lane.DEPLOY)
        return rows

    def _match(self, found: Mapping[tuple[Kind, str], Sequence[Summary]]) -> Iterator[str]:
        """Give each job the instance to adopt; yields the problem of names that are live already."""
        live = {job.index: found.get((job.spec.kind, job.spec.name), ()) for job in self._jobs}
        if not self._terms.adopt:
            taken = [str(row.ref) for rows in live.values() for row in rows]
            if taken:
                yield (
                    f"live and billing already: {', '.join(taken)}. Take them with adopt=True (--adopt), "
                    "choose other names, or end them first"
                )
            return
        for job in self._jobs:
            job.live = next(iter(live[job.index]), None)
            if len(live[job.index]) > 1:
                first, *others = (str(row.ref) for row in live[job.index])
                log.warning("%s: adopting the oldest of that name; live too: %s", first, ", ".join(others))

    async def _offers(self) -> list[Offer]:
        offers: list[Offer] = []
        for kind in {job.spec.kind for job in self._jobs}:
            offers += await self._plans.find(kind=kind)
        return offers

    async def _book_live(self, budget: Budget) -> None:
        """Book each instance that is adopted at its own price: its plan's price may have changed since."""
        resources, outlast = self._launcher.resources, self._outage.outlast
        adopted = [(job, job.live.ref) for job in self._jobs if job.live is not None]
        details = await asyncio.gather(
            *(outlast(partial(resources[ref.kind].look_at, ref.id)) for _, ref in adopted)
        )
        for (job, _), detail in zip(adopted, details, strict=True):
            if detail.status.final:
                job.live = None
            else:
                budget.take(job.index, detail.billing.hourly_usage)

    def _book_rest(self, budget: Budget) -> Iterator[str]:
        """Book the jobs that are to be deployed; a job whose plan is gone, at its first fallback for sale."""
        rest = [job for job in self._jobs if job.live is None]
        for job in rest:
            if not budget.knows(job.spec):
                job.others = self._terms.alternatives(job.wanted)
                job.spec = next((spec for spec in job.others if budget.knows(spec)), job.wanted)
        yield from budget.unknown_plans(self._terms.fallback)
        yield from budget.book_all({job.index: job.spec for job in rest})
