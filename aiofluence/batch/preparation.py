"""The checks of a launch before its first deploy: names that are live already, plans, prices.

Sends one LIST per kind. With a price limit, it also requests the catalogue, the balance, and the price of
each instance to adopt. Logs doubts about the specs. Deploys and ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from ..errors import DecodeError, PlanUnavailableError
from ..lifecycle.arguments import refuse
from ..lifecycle.instance import InstanceLifecycle
from ..lifecycle.shared_list import NamedRows
from ..models.instances import Instance, InstanceRef, Summary
from ..models.specs import Spec
from ..resources.account import Account, known_balance
from ..resources.offers import read_money
from .job import Job
from .options import Budget, Terms
from .outage import Outage

log: Final = logging.getLogger("aiofluence")

_NAMED: Final = 10
"""Number of specs that an error names, of those with the same problem."""


class Preparation:
    """The preparation of one launch."""

    def __init__(
        self,
        launcher: InstanceLifecycle,
        account: Account,
        jobs: Sequence[Job],
        terms: Terms,
        outage: Outage,
        accept: Callable[[Job, Spec], bool],
    ) -> None:
        self._lifecycle = launcher
        self._account = account
        self._jobs = jobs
        self._terms = terms
        self._outage = outage
        self._catalogue = launcher.deployer.catalogue
        for job in jobs:
            job.choice = self._catalogue.choice(
                job.wanted,
                terms.alternatives,
                partial(accept, job),
                only_listed=terms.max_hourly is not None,
            )

    async def __call__(self) -> Budget:
        """Find the live instances of the jobs, choose plans that are for sale, and book all prices.

        Raises:
            ConfigError: names are live already and `adopt` is false, plans are not for sale, or the total
                exceeds `max_hourly`.
            PlanUnavailableError: no plan fits the conditions of a spec. Names every such spec.
            InsufficientBalanceError: the balance cannot pay the first hours, which deploys charge at once.
            FluenceError: a LIST, the catalogue or a price did not come.
        """
        problems = [*await self._find_live()]
        ceiling = read_money(self._terms.max_hourly)
        budget = Budget(self._catalogue, ceiling)
        if ceiling is not None:
            await self._book_live(budget)
        unfit = await self._choose_plans()
        if ceiling is not None:
            problems += await self._unknown_fallbacks()
            if not unfit:
                chosen = {job.index: job.spec for job in self._jobs if job.live is None and job.spec.plan_id}
                problems += budget.book_all(chosen)
        if unfit and not problems:
            raise PlanUnavailableError(f"{unfit}\nnothing was deployed")
        refuse(problems, [unfit] if unfit else ())
        if ceiling is not None:
            await self._check_balance(budget)
        for job in self._jobs:
            if job.live is None:
                self._lifecycle.resources[job.spec.kind].warn_about(job.spec)
        return budget

    async def _find_live(self) -> Iterator[str]:
        """Find the jobs' names with one LIST per kind. Return the problems of names that are live already."""
        resources, outlast = self._lifecycle.resources, self._outage.outlast
        kinds = list({job.spec.kind for job in self._jobs})
        shared = self._lifecycle.deployer.lists
        lists = await asyncio.gather(*(outlast(partial(shared[kind].now, resources[kind])) for kind in kinds))
        taken: list[str] = []
        for job in self._jobs:
            job.known = rows = lists[kinds.index(job.spec.kind)]
            live, doubtful = self._live(job, rows)
            if not live and not rows.is_whole:
                what = f"the LIST is partial, and a live {job.spec.kind} {job.spec.name} cannot be ruled out"
                raise DecodeError(f"{what}; nothing was sent")
            if self._terms.adopt and live:
                job.live, *others = live
                if others or doubtful:
                    names = ", ".join([*(str(row.ref) for row in others), *doubtful])
                    log.warning("%s: adopting the oldest of that name; live too: %s", job.live.ref, names)
            else:
                taken += [*(str(row.ref) for row in live), *doubtful]
        return _taken(taken, self._terms.adopt)

    def _live(self, job: Job, rows: NamedRows) -> tuple[list[Summary], list[str]]:
        """Live instances of the job's name, oldest first, and descriptions of rows that cannot be read.

        An instance that this session is ending is left out: the deployer knows its id.
        """
        live: list[Summary] = []
        doubtful: list[str] = []
        for raw in rows.named(job.spec.name):
            try:
                row: Summary = self._lifecycle.resources[job.spec.kind].summary_of(raw)
            except DecodeError:
                doubtful.append(f"{job.spec.kind} {job.spec.name} (a row that cannot be read)")
                continue
            if not row.status.final and not self._lifecycle.custodian.holds(row.ref):
                live.append(row)
        return sorted(live, key=lambda row: (row.created_at, row.id)), doubtful

    async def _detail(self, ref: InstanceRef) -> Instance:
        endpoints = self._lifecycle.resources[ref.kind]
        detail: Instance = endpoints.detail_of(await endpoints.get(ref.id))
        return detail

    async def _book_live(self, budget: Budget) -> None:
        """Book each instance to adopt at its own price: its plan's price may have changed since."""
        adopted = [(job, job.live.ref) for job in self._jobs if job.live is not None]
        details = await asyncio.gather(
            *(self._outage.outlast(partial(self._detail, ref)) for _, ref in adopted)
        )
        for (job, _), detail in zip(adopted, details, strict=True):
            if detail.status.final:
                job.live = job.known = None  # its LIST is stale
            else:
                budget.take(job.index, detail.billing.hourly_usage)

    async def _check_balance(self, budget: Budget) -> None:
        """Check that the account can pay the deploys. If the balance does not come, the check passes."""
        rest = [job.spec for job in self._jobs if job.live is None and job.spec.plan_id]
        balance = await known_balance(self._account) if rest else None
        if balance is not None:
            quorum = self._terms.min_ready
            adopted = sum(job.live is not None for job in self._jobs)
            needed = len(rest) if quorum is None else min(len(rest), max(0, quorum - adopted))
            log.info("%s", budget.check_balance(balance, rest, needed))

    async def _choose_plans(self) -> str:
        """Choose a plan for each job to deploy. Return the reasons for those without a plan, and their names.

        With `wait_for_capacity`, a job without a plan gets its plan later.
        """
        unfit: dict[str, list[str]] = {}
        for job in self._jobs:
            if job.live is None:
                try:
                    await self._outage.outlast(job.choice.next)
                except PlanUnavailableError as error:
                    if self._terms.wait_for_capacity is None:
                        unfit.setdefault(str(error), []).append(job.spec.name)
                    job.choice = job.choice.again(error)
        return "\n".join(f"{_listed(names)}: {why}" for why, names in unfit.items())

    async def _unknown_fallbacks(self) -> Iterator[str]:
        """Yield a problem if ids among the fallbacks belong to no plan for sale."""
        kinds = sorted({job.spec.kind for job in self._jobs})
        plans = [
            plan
            for kind in kinds
            for plan in (await self._outage.outlast(partial(self._catalogue.now, kind))).offers
        ]
        unknown = [each for each in self._terms.fallback if isinstance(each, str) and each not in plans]
        return iter(
            [f"fallback: no {' or '.join(kinds)} plan is for sale now as: {', '.join(unknown)}"]
            if unknown
            else []
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _taken(live: Sequence[str], adopt: bool) -> Iterator[str]:
    if live:
        ways = "C" if adopt else "Take them with adopt=True (--adopt), c"
        yield f"live and billing already: {', '.join(live)}. {ways}hoose other names, or end them first"
