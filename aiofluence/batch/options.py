"""The options of a launch, its budget, and its fallbacks for plans that are gone.

Pure arithmetic. `launch` sends and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias, cast

import attrs

from ..errors import InsufficientBalanceError
from ..lifecycle.arguments import fallback_problems, money_problems, quorum_problems, refuse
from ..lifecycle.options import OnFailure, Until
from ..models.account import Balance
from ..models.money import ZERO, exact, total
from ..models.plans import Offer
from ..models.specs import Spec, read_names
from ..resources.catalogue import Catalogue
from ..resources.offers import on_offer
from .progress import OnProgress

Fallback: TypeAlias = str | Offer | Callable[[Spec], Spec]
"""Fallback for a plan that is gone: another plan's id, an offer, or a function from spec to spec."""


def _read_fallback(given: Sequence[Fallback] | Fallback) -> tuple[Fallback, ...]:
    """Return the fallbacks in order. An invalid value is kept, for the error of `Terms.check`."""
    if isinstance(given, str | Offer) or not isinstance(given, Iterable):
        return (given,)
    return tuple(given)


def _read_until(given: Until | str) -> Until:
    """Return the state. An invalid value is kept, for the error of `Terms.check`."""
    return Until(given) if given in [each.value for each in Until] else cast(Until, given)


@attrs.frozen
class Terms:
    """The options of a launch. See `Session.launch`."""

    until: Until = attrs.field(converter=_read_until)
    timeout: float | None
    on_failure: OnFailure
    min_ready: int | None
    max_hourly: Decimal | float | str | None
    fallback: Sequence[Fallback] = attrs.field(converter=_read_fallback)
    on_progress: OnProgress | None
    adopt: bool
    gpu: tuple[str, ...] = attrs.field(converter=read_names)
    wait_for_capacity: float | None

    def wanted(self, spec: Spec) -> Spec:
        """Return `spec` with the launch's GPU models, if it names none itself."""
        has_gpu = getattr(spec, "gpu", True)  # a caller may have given anything
        return attrs.evolve(spec, gpu=self.gpu) if self.gpu and not has_gpu else spec

    def check(self, specs: Sequence[object]) -> None:
        """Refuse arguments that do not fit `specs`, and specs that the service would refuse."""
        refuse(
            quorum_problems(self.min_ready, len(specs)),
            money_problems(self.max_hourly),
            fallback_problems(self.fallback),
            specs=specs,
            until=self.until,
            timeout=self.timeout,
            on_failure=self.on_failure,
            on_progress=self.on_progress,
            adopt=self.adopt,
            wait_for_capacity=self.wait_for_capacity,
        )

    def alternatives(self, spec: Spec) -> Iterator[Spec]:
        """Yield `spec` with each fallback in turn, without offers that do not fit the spec."""
        for fallback in self.fallback:
            other = _fall_back(spec, fallback)
            if other is not None:
                yield other


def _fall_back(spec: Spec, fallback: Fallback) -> Spec | None:
    if isinstance(fallback, str):
        return attrs.evolve(spec, plan_id=fallback)
    return on_offer(spec, fallback) if isinstance(fallback, Offer) else fallback(spec)


class Budget:
    """The limit of a launch's hourly cost, by current prices. Without a ceiling, every booking succeeds."""

    def __init__(self, catalogue: Catalogue, ceiling: Decimal | None = None) -> None:
        self._catalogue = catalogue
        self._ceiling = ceiling
        self._booked: dict[int, Decimal] = {}
        self._total = Decimal(0)

    @exact()
    def book(self, index: int, spec: Spec) -> bool:
        """Book `spec` at place `index`, in exchange for the earlier one. Return False if it is too dear."""
        if self._ceiling is None:
            return True
        offer = self._catalogue.offer_of(spec)
        if offer is None or self._total - self._booked.get(index, 0) + offer.hourly > self._ceiling:
            return False
        self.free(index)
        self._booked[index] = offer.hourly
        self._total += offer.hourly
        return True

    @exact()
    def free(self, index: int) -> None:
        """Cancel the booking at place `index`: no instance runs there."""
        self._total -= self._booked.pop(index, Decimal(0))

    @exact()
    def take(self, index: int, price: Decimal) -> None:
        """Book an instance that exists already, at any price."""
        self._booked[index] = price
        self._total += price

    def book_all(self, specs: Mapping[int, Spec]) -> Iterator[str]:
        """Book the specs, each at its place. Yield the reason if that is impossible."""
        live, count = self._total, len(self._booked)
        fits = [self.book(index, spec) for index, spec in specs.items()]
        if not all(fits) or (self._ceiling is not None and live > self._ceiling):
            cost = total([live, *(offer.hourly for offer in self._offers(specs.values()))])
            adopted = f"{count} live instances and " if count else ""
            yield f"{adopted}{len(specs)} specs cost {cost} USDC an hour, over max_hourly={self._ceiling}"

    def check_balance(self, balance: Balance, specs: Sequence[Spec], needed: int) -> str:
        """Refuse a launch if the account cannot pay the first hours of `needed` of `specs`.

        Returns:
            The price of all specs, and how long the balance lasts, as a sentence.
        """
        offers = self._offers(specs)
        upfront = total(sorted(offer.upfront for offer in offers)[:needed])
        if upfront > max(ZERO, balance.balance):
            raise InsufficientBalanceError(
                f"{needed} specs take {upfront:f} USDC at once, and the balance is {balance.balance:f}; "
                "nothing was deployed"
            )
        hourly = total(offer.hourly for offer in offers)
        return f"{len(offers)} specs cost {hourly:f} USDC an hour{balance.lasts(hourly)}"

    def _offers(self, specs: Iterable[Spec]) -> list[Offer]:
        return [offer for spec in specs if (offer := self._catalogue.offer_of(spec)) is not None]
