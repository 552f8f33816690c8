"""A run of the probes: the work and cost of each level, its execution, and the observations at the end.

Asks nothing and prints nothing. `cli.commands.conformance` does both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

import attrs

from ..errors import AuthError, FluenceError
from ..models.money import exact, total
from ..models.plans import Offer
from ..models.values import Kind
from ..session import Session
from .account import Account, read_account
from .asking import Asker, UnfitError
from .deploying import worst_case
from .finding import Finding, Notes, Observations, Verdict
from .http_probes import HTTP_PROBES, LAST
from .output_probes import OUTPUT_PROBES
from .paid_probes import PAID_PROBES
from .probe import NOT_SHOWN, Bench, Level, Probe, requests_of
from .reading_probes import READING_PROBES
from .refunded_probes import REFUNDED_PROBES
from .rule_probes import RULE_PROBES

PROBES: Final[tuple[Probe, ...]] = (
    *HTTP_PROBES,
    *READING_PROBES,
    *OUTPUT_PROBES,
    *RULE_PROBES,
    *LAST,
    *REFUNDED_PROBES,
    *PAID_PROBES,
)
"""All probes, in the order of a run."""

_READING: Final = 40
"""Requests that read the documents of the account, about."""


@attrs.frozen
class Plan:
    """Work and cost of a level.

    Attributes:
        level: the level.
        requests: number of requests, about.
        minutes: duration, about.
        planned: planned cost in USDC.
        worst: largest possible cost in USDC.
        text: one sentence about what the level does.
    """

    level: Level
    requests: int
    minutes: int
    planned: Decimal
    worst: Decimal
    text: str


class Conformance:
    """A run, over one or more sessions of the same account.

    Args:
        say: prints a line about the progress.
        max_cost: USDC that all levels together may cost at worst. None means no limit.
    """

    def __init__(
        self, say: Callable[[str], None] = lambda text: None, max_cost: Decimal | None = None
    ) -> None:
        self._say = say
        self._max_cost = max_cost
        self._notes = Notes()
        self._account = Account()
        self._texts: set[str] = set()
        self._run: list[Level] = []
        self.container: Offer | None = None
        self.vm: Offer | None = None

    async def find_prices(self, session: Session) -> None:
        """Find the cheapest plans that the levels would deploy.

        Raises:
            FluenceError: the prices cannot be fetched.
        """
        offers = await session.plans.find()
        self.container = next((offer for offer in offers if offer.kind is Kind.CONTAINER), None)
        self.vm = next((offer for offer in offers if offer.kind is Kind.VM), None)

    @exact()
    def plan(self, level: Level) -> Plan:
        """Return what the level itself will do, without the levels before it."""
        requests = requests_of(each for each in PROBES if each.level is level)
        rent = Decimal(0) if self.container is None else self.container.hourly
        if level is Level.FREE:
            text = "reads the account and the catalogue, and sends requests that must be refused"
            return Plan(level, requests + _READING, 1, Decimal(0), Decimal(0), text)
        if level is Level.REFUNDED:
            vm = Decimal(0) if self.vm is None else self.vm.hourly
            worst = worst_case(rent) + worst_case(vm)
            text = "deploys a container that fails and is refunded, and a VM with a system that is refused"
            return Plan(level, requests, 4, Decimal(0), worst, text)
        text = "rents the cheapest container for one clock hour, and runs five programs in it"
        return Plan(level, requests, 15, rent, worst_case(rent), text)

    def worst_until(self, level: Level) -> Decimal:
        """Return the largest possible cost of a level and the ones before it."""
        return total(self.plan(each).worst for each in level.included)

    async def run(self, session: Session, level: Level) -> None:
        """Run the probes of one level.

        Raises:
            AuthError: the key is not valid.
            UnfitError: prices have risen, and the level could cost more than `max_cost`.
        """
        if level is not Level.FREE:
            await self.find_prices(session)
            if self._max_cost is not None and self.worst_until(level) > self._max_cost:
                raise UnfitError(f"prices have risen: the level {level} could now cost more than allowed")
        asker = Asker(session)
        asker.account |= self._texts
        self._texts = asker.account
        self._run.append(level)
        if level is Level.FREE:
            self._account = await read_account(asker)
            self._texts |= asker.account
        bench = Bench(asker, self._notes, self._account, self.container, self.vm, self._say)
        try:
            for each in PROBES:
                if each.level is level:
                    self._say(f"{each.label}")
                    await self._probe(each, bench)
        finally:
            self._texts |= asker.account

    async def _probe(self, each: Probe, bench: Bench) -> None:
        why = NOT_SHOWN
        try:
            await each.run(bench)
        except AuthError:
            raise
        except UnfitError as error:
            why = str(error)
        except FluenceError as error:
            why = f"{type(error).__name__} ended the probe"
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            why = f"a reply has an unexpected form ({type(error).__name__})"
        for claim in each.claims:
            if claim not in self._notes:
                self._notes.undecided(claim, why)

    def observations(self, claims: Mapping[str, str]) -> Observations:
        """Return a finding for each claim.

        Args:
            claims: ids of all claims, each with the reason why no probe decides it.
        """
        found = {finding.claim: finding for finding in self._notes}
        later = {
            claim: f"decided by the level {each.level}"
            for each in reversed(PROBES)
            if each.level not in self._run
            for claim in each.claims
        }
        every = [
            found[claim]
            if claim in found and not (claim in later and found[claim].why == NOT_SHOWN)
            else Finding(claim, Verdict.UNDECIDED, why=later.get(claim) or reason or "no probe decides it")
            for claim, reason in claims.items()
        ]
        level = self._run[-1] if self._run else Level.FREE
        return Observations.of(level, every, self._texts)
