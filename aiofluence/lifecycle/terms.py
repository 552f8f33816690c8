"""What a launch of many was asked for: its options, what it may cost, what to try when a plan is gone.

Only reckons; sending and waiting are `batch`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias

import attrs

from ..errors import ConfigError, InsufficientBalanceError
from ..models.account import Balance
from ..models.catalog import Offer
from ..models.money import ZERO, exact, total
from ..models.specs import Spec, VMSpec
from ..resources.choosing import read_money
from .launch import OnFailure, check_on_failure
from .tally import OnProgress
from .wait import Until, check_until

Fallback: TypeAlias = str | Offer | Callable[[Spec], Spec]
"""What to try when a plan is gone: another plan's id, an offer, or a function from spec to spec."""


@attrs.frozen
class Terms:
    """What a launch was asked for; see `Session.launch`."""

    until: Until
    timeout: float | None
    on_failure: OnFailure
    min_ready: int | None
    max_hourly: Decimal | float | str | None
    fallback: Sequence[Fallback] | Fallback
    on_progress: OnProgress | None

    def check(self, count: int) -> None:
        """Refuse what makes no sense for `count` specs.

        Raises:
            ConfigError: such as a quorum of more than there are.
        """
        check_until(self.until)
        check_on_failure(self.on_failure)
        read_money(self.max_hourly)
        if self.min_ready is not None and not 0 <= self.min_ready <= count:
            raise ConfigError(f"min_ready is 0 to {count} here, not {self.min_ready!r}")

    def alternatives(self, spec: Spec) -> Iterator[Spec]:
        """`spec` with each fallback in turn; an offer that cannot take its place is left out."""
        given = self.fallback
        for fallback in [given] if isinstance(given, str | Offer) or callable(given) else given:
            other = _fall_back(spec, fallback)
            if other is not None:
                yield other


def _fall_back(spec: Spec, fallback: Fallback) -> Spec | None:
    if isinstance(fallback, str):
        return attrs.evolve(spec, plan_id=fallback)
    if not isinstance(fallback, Offer):
        return fallback(spec)
    if fallback.kind is not spec.kind:
        return None
    if isinstance(spec, VMSpec):
        # Providers spell one system differently, and an image must be written as the offer writes it.
        known = not fallback.os_options or spec.os_image in fallback.os_options
        image = spec.os_image if known else fallback.os_options[0]
        return attrs.evolve(spec, plan_id=fallback.plan_id, os_image=image)
    if spec.location is not None and spec.location not in fallback.locations:
        return None
    return attrs.evolve(spec, plan_id=fallback.plan_id)


class Budget:
    """What a launch may cost in one hour, by the prices of the day; without a ceiling, anything goes."""

    def __init__(self, offers: Iterable[Offer] = (), ceiling: Decimal | None = None) -> None:
        self._offers: Mapping[tuple[str, str], Offer] = {(o.kind, o.plan_id): o for o in offers}
        self._ceiling = ceiling
        self._booked: dict[int, Decimal] = {}
        self._total = Decimal(0)

    def knows(self, spec: Spec) -> bool:
        """Whether the spec's plan is for sale, as far as that was asked."""
        return self._ceiling is None or (spec.kind, spec.plan_id) in self._offers

    @exact()
    def book(self, index: int, spec: Spec) -> bool:
        """Take `spec` for the place `index`, instead of what it had; False when it is too dear."""
        if self._ceiling is None:
            return True
        offer = self._offers.get((spec.kind, spec.plan_id))
        if offer is None or self._total - self._booked.get(index, 0) + offer.hourly > self._ceiling:
            return False
        self.free(index)
        self._booked[index] = offer.hourly
        self._total += offer.hourly
        return True

    @exact()
    def free(self, index: int) -> None:
        """Nothing runs at that place, after all."""
        self._total -= self._booked.pop(index, Decimal(0))

    def check(self, specs: Sequence[Spec]) -> None:
        """Book all specs, before the first is sent.

        Raises:
            ConfigError: they cost more together, or plans are not for sale.
        """
        if self._ceiling is None:
            return
        gone = [f"{spec.name} ({spec.plan_id})" for spec in specs if not self.knows(spec)]
        if gone:
            raise ConfigError(f"no such plan is for sale now; nothing was sent: {', '.join(gone)}")
        if not all(self.book(index, spec) for index, spec in enumerate(specs)):
            cost = total(self._offers[spec.kind, spec.plan_id].hourly for spec in specs)
            raise ConfigError(
                f"{len(specs)} specs cost {cost} USDC an hour, over max_hourly={self._ceiling}; "
                "nothing was sent"
            )

    def check_balance(self, balance: Balance, specs: Sequence[Spec], min_ready: int | None) -> str:
        """Refuse a launch whose first hours the account cannot pay; else say how long the balance lasts.

        With `min_ready`, the balance need only pay that many.

        Raises:
            InsufficientBalanceError: a deploy takes the first hours at once, and they cost more.
        """
        offers = [self._offers[spec.kind, spec.plan_id] for spec in specs]
        upfront = total(sorted(offer.upfront for offer in offers)[:min_ready])
        if upfront > max(ZERO, balance.balance):
            raise InsufficientBalanceError(
                f"{len(offers)} specs take at least {upfront:f} USDC at once, and the balance is "
                f"{balance.balance:f}; nothing was sent"
            )
        hourly = total(offer.hourly for offer in offers)
        return f"{len(offers)} specs cost {hourly:f} USDC an hour{balance.lasts(hourly)}"
