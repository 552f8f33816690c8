"""The plans for rent, requested once for all deploys of a session, and the choice of a plan for a spec.

A `Choice` has the candidates of one deploy in order of preference. `lifecycle.deploy` sends them.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..errors import FluenceError, NotSentError, PlanUnavailableError
from ..http.retry import is_certain
from ..models.plans import Offer
from ..models.specs import Spec, is_complete
from ..models.values import Kind
from .offers import Wanted, conditions_of, on_offer, why_nothing_fits
from .plans import Plans

log: Final = logging.getLogger("aiofluence")

_FRESH: Final = 5.0
"""Seconds for which a request of the plans serves further deploys."""
_EVERY: Final = 15.0
"""Seconds between two requests of the plans while deploys wait for capacity."""


class Snapshot:
    """The plans of one kind at one moment, without those that the service has refused since then.

    Attributes:
        asked: loop time of the request.
        offers: the offers, by plan id.
        has_refusals: the service has refused a plan since then.
    """

    def __init__(self, asked: float, offers: list[Offer]) -> None:
        self.asked: Final = asked
        self.offers: Final = {offer.plan_id: offer for offer in offers}
        self.has_refusals: bool = False
        self._fitting: dict[Wanted, list[Offer]] = {}
        self._why: dict[Wanted, str] = {}

    def refuse(self, plan_id: str) -> None:
        """Note that the service has refused a plan."""
        self.has_refusals = True
        self.offers.pop(plan_id, None)

    def fitting(self, wanted: Wanted) -> list[Offer]:
        """Return the offers that fit, cheapest first."""
        if wanted not in self._fitting:
            self._fitting[wanted] = wanted.choose(self.offers.values())
        return [offer for offer in self._fitting[wanted] if offer.plan_id in self.offers]

    def why_nothing_fits(self, wanted: Wanted) -> str:
        """Explain that no offer fits."""
        if wanted not in self._why:
            self._why[wanted] = why_nothing_fits(list(self.offers.values()), wanted)
        return self._why[wanted]


class Catalogue:
    """The plans for rent, for one session."""

    def __init__(self, plans: Plans, pace: float) -> None:
        self._plans = plans
        self._fresh = _FRESH * pace
        self._every = _EVERY * pace
        self._locks: defaultdict[Kind, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._latest: dict[Kind, Snapshot] = {}
        self._failed: dict[Kind, tuple[float, FluenceError]] = {}
        self._prices: dict[tuple[Kind, str], Offer] = {}

    async def now(self, kind: Kind) -> Snapshot:
        """Return the plans of a few seconds ago at most. Callers of the same moment share one request."""
        began = asyncio.get_running_loop().time()
        async with self._locks[kind]:
            failed, error = self._failed.get(kind, (began - 1, None))
            if failed >= began and error is not None:
                raise copy.copy(error)  # each traceback is its caller's own
            latest = self._latest.get(kind)
            if latest is None or latest.asked < began - self._fresh:
                asked = asyncio.get_running_loop().time()
                try:
                    offers = await self._plans.find(kind=kind)
                except FluenceError as error:
                    self._failed[kind] = asked, error
                    raise
                latest = self._latest[kind] = Snapshot(asked, offers)
                self._prices.update({(kind, offer.plan_id): offer for offer in offers})
            return latest

    def choice(
        self,
        wanted: Spec,
        alternatives: Callable[[Spec], Iterator[Spec]] = lambda spec: iter(()),
        accept: Callable[[Spec], bool] = lambda spec: True,
        *,
        only_listed: bool = False,
    ) -> Choice:
        """Return the choice of a plan for a new deploy. Earlier refusals lead to a new request of the plans.

        Args:
            wanted: the spec.
            alternatives: function that returns further specs, for when no plan of `wanted` is left.
            accept: function called with each spec before it is sent. False skips the spec.
            only_listed: skip plans that are not listed for rent.
        """
        self._latest = {kind: latest for kind, latest in self._latest.items() if not latest.has_refusals}
        return Choice(self, wanted, alternatives, accept, only_listed)

    def offer_of(self, spec: Spec) -> Offer | None:
        """Return the latest known offer of the spec's plan; None if no request has shown the plan."""
        return self._prices.get((spec.kind, spec.plan_id))

    def refused(self, spec: Spec) -> None:
        """Note that the service has refused the spec's plan: it is not for rent until the next request."""
        if spec.kind in self._latest:
            self._latest[spec.kind].refuse(spec.plan_id)

    def pause_after(self, error: PlanUnavailableError, until: float | None) -> float:
        """Seconds to the next request while plans are sold out: at the same moments for all deploys.

        Raises:
            PlanUnavailableError: `error`, if the loop time `until` has come, or is None.
        """
        now = asyncio.get_running_loop().time()
        if until is None or now >= until:
            raise error
        return min(self._every - now % self._every, until - now)


class Choice:
    """The specs that one deploy may send, in order of preference, each with a plan.

    First comes the plan id of the spec, then each plan that fits its conditions, then the same of each
    alternative.

    Attributes:
        spec: present spec. Without a plan before the first call of `next`.
        is_refused: the service has refused the last spec, and no other is chosen yet.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        wanted: Spec,
        alternatives: Callable[[Spec], Iterator[Spec]],
        accept: Callable[[Spec], bool],
        only_listed: bool,
        error: PlanUnavailableError | None = None,
    ) -> None:
        self.spec: Spec = wanted
        self.is_refused: bool = False
        self._catalogue = catalogue
        self._wanted = wanted
        self._alternatives = alternatives
        self._accept = accept
        self._only_listed = only_listed
        self._error = error
        self._source: Spec | None = wanted
        self._others = alternatives(wanted)
        self._tried: set[str] = set()

    def again(self, error: PlanUnavailableError) -> Choice:
        """Return the same choice from its beginning, restricted to plans that are listed for rent."""
        return Choice(self._catalogue, self._wanted, self._alternatives, self._accept, True, error)

    async def wait(self, error: PlanUnavailableError, until: float | None) -> Choice:
        """Return the same choice from its beginning, once one of its plans is listed for rent.

        Raises:
            PlanUnavailableError: `error`, if the loop time `until` has come, or is None.
            FluenceError: the service refused to show the plans.
        """
        while True:
            await asyncio.sleep(self._catalogue.pause_after(error, until))
            choice = self.again(error)
            try:
                for source in (self._wanted, *self._alternatives(self._wanted)):
                    if any(await choice._candidates(source, None)):
                        return choice
            except NotSentError as failure:
                if failure.permanent:  # the session is closed
                    raise

    async def next(self, refusal: PlanUnavailableError | None = None) -> Spec:
        """Return the spec to send: the present spec, or the following spec if the service refused its plan.

        Raises:
            PlanUnavailableError: there are no more plans. `refusal`, if it was given.
            NotSentError: the plans could not be requested.
            FluenceError: the service refused to show the plans.
        """
        if refusal is None and self.spec.plan_id in self._tried:
            return self.spec
        if refusal is not None:
            self.is_refused = True
            self._catalogue.refused(self.spec)
        while self._source is not None:
            for spec in await self._candidates(self._source, refusal):
                self._tried.add(spec.plan_id)
                if self._accept(spec):
                    if refusal is not None:
                        log.info("%s %s: %s; trying plan %s", spec.kind, spec.name, refusal, spec.plan_id)
                    self.spec, self.is_refused = spec, False
                    return spec
            self._source = next(self._others, None)
            self._tried.clear()
        raise refusal or self._error or await self._nothing()

    async def _candidates(self, source: Spec, refusal: PlanUnavailableError | None) -> Iterable[Spec]:
        """Return the untried specs of one source."""
        # An alternative with a plan id is that plan alone.
        conditions = [] if source.plan_id and source is not self._wanted else conditions_of(source)
        if is_complete(source) and not self._only_listed:
            if source.plan_id not in self._tried:
                return [source]
            if not conditions:
                return []
        snapshot = await self._snapshot(source.kind, refusal)
        return self._on_offers(source, conditions, snapshot)

    def _on_offers(self, source: Spec, conditions: list[Wanted], snapshot: Snapshot) -> Iterator[Spec]:
        own = snapshot.offers.get(source.plan_id)
        if own is not None and own.plan_id not in self._tried:
            yield source if is_complete(source) else on_offer(source, own) or source
        for wanted in conditions:
            for offer in snapshot.fitting(wanted):
                spec = None if offer.plan_id in self._tried else on_offer(source, offer)
                if spec is not None:
                    yield spec

    async def _snapshot(self, kind: Kind, refusal: PlanUnavailableError | None) -> Snapshot:
        try:
            return await self._catalogue.now(kind)
        except FluenceError as error:
            if refusal is not None:
                raise refusal from error
            if is_certain(error):
                raise
            failure = error
        raise NotSentError(f"no plan could be chosen, so nothing was sent: {failure}") from failure

    async def _nothing(self) -> PlanUnavailableError:
        spec = self._wanted
        if spec.plan_id:
            return PlanUnavailableError(f"no {spec.kind} plan {spec.plan_id} is for rent now")
        snapshot = await self._snapshot(spec.kind, None)
        return PlanUnavailableError("\n".join(map(snapshot.why_nothing_fits, conditions_of(spec))))
