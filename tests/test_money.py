"""Money is exact and bounded, whatever the program's own decimal context and whatever the service answers."""

from __future__ import annotations

import decimal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest

from aiofluence import Billing, ConfigError, Pricing
from aiofluence.models.money import MOST, read_amount, total
from aiofluence.models.spending import estimate_spend
from aiofluence.resources.offers import read_money
from aiofluence.simulator import Provisioning, Simulator

from .harness import BOTH, VIRTUAL, container_spec, session_on


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@contextmanager
def accountant() -> Iterator[None]:
    """A program that wants to hear of every rounding, and has its own idea of precision."""
    with decimal.localcontext() as context:
        context.prec = 2
        context.rounding = decimal.ROUND_UP
        context.Emax, context.Emin = 2, -2
        for trap in (decimal.Inexact, decimal.Rounded, decimal.Subnormal, decimal.FloatOperation):
            context.traps[trap] = True
        yield


@BOTH
async def test_a_launch_is_exact_in_any_decimal_context(profile: Any) -> None:
    simulator = Simulator(provisioning=Provisioning(sigma=0), profile=profile)
    price = simulator.catalog.find("container").hourly
    exact = price * 3
    async with session_on(simulator) as fluence:
        with accountant():
            offers = await fluence.plans.find(kind="container", max_hourly="12.3456")
            specs = container_spec(simulator, "d-{i}").many(3)
            report = await fluence.deploy_all_and_wait(specs, max_hourly="40.123")
            cost, shown = report.hourly_cost, f"{report!r} {offers!r}"
            with pytest.raises(ConfigError, match="over max_hourly"):
                await fluence.deploy_all_and_wait(specs, max_hourly="0.001")
        assert cost == exact
        assert f"{exact:f} USDC/h" in shown
        assert next(o.upfront for o in offers if o.hourly == price) == exact
        assert simulator.spent() == exact
        for ref in report.instances:
            await fluence.terminate_and_wait(ref)
    assert sum(entry.amount for entry in simulator.ledger) == -exact


def test_sums_are_exact_in_every_thread() -> None:
    sums: list[Decimal] = []

    def add() -> None:
        with accountant():
            sums.append(total([Decimal("123456789.123456789"), Decimal("0.000000001")]))
            sums.append(Pricing(Decimal("41152263.041152263"), upfront_hours=3).upfront)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [Decimal("123456789.123456790"), Decimal("123456789.123456789")] * 4


async def test_what_was_spent_is_estimated_exactly() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        seen = await fluence.deploy_and_wait(container_spec(simulator))
    due = datetime(2026, 1, 1, tzinfo=UTC)
    bill = Billing(Decimal("12.3456"), Decimal("0.0001"), Decimal(0), due)
    with accountant():
        spent = estimate_spend(attrs.evolve(seen, billing=bill), due + timedelta(hours=1.5))
    assert spent == Decimal("24.6913")


@pytest.mark.parametrize(
    "given",
    [
        "1E+999999999",
        "1e-999999",
        "NaN",
        "sNaN",
        "-0.01",
        "9" * 99,
        10**5000,
        10**10,
        float("inf"),
        float("nan"),
        *(Decimal("1E+999999999"), Decimal("sNaN"), "\u0661", "1_0", True, b"5", "", "1" * 1_000_000),
    ],
    ids=lambda given: type(given).__name__,
)
def test_no_amount_of_money(given: Any) -> None:
    with pytest.raises(ConfigError, match="max_hourly is an amount of money") as caught:
        read_money(given)
    assert len(str(caught.value)) < 200
    assert caught.value.__context__ is None
    with pytest.raises(ValueError, match="not an amount"):
        read_amount(given)


@pytest.mark.parametrize("given", ["0", 0, 0.1, " 2.50 ", Decimal("1E+3"), MOST])
def test_an_amount_of_money(given: Any) -> None:
    with accountant():
        amount = read_money(given)
    assert amount == Decimal(str(given).strip())
    assert len(str(amount)) < 60
