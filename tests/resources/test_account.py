"""The account: balance and permissions in whatever form they come, and what a balance decides.

A wire of the contract's answers the two paths of the account: section 7 names the fields of both answers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from aiofluence import (
    ContainerSpec,
    DecodeError,
    FluenceError,
    InsufficientBalanceError,
    NotFoundError,
    Reply,
    Request,
    Session,
)
from aiofluence.models.specs import Spec
from aiofluence.resources.account import known_balance
from aiofluence.simulator import DEFAULT_API_KEY, Simulator, SimulatorWire

from ..harness import FAST, VIRTUAL, container_spec

BALANCES = "/v2/users/balances"
ME = "/v1/users/me"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


class AccountWire:
    """The simulator, with answers of its own to the two paths of the account."""

    def __init__(self, simulator: Simulator, answers: Mapping[str, Any], status: int = 200) -> None:
        self._inner = SimulatorWire(simulator)
        self._answers = answers
        self._status = status
        self.asked: list[str] = []

    async def send(self, request: Request) -> Reply:
        if request.path not in (BALANCES, ME):
            return await self._inner.send(request)
        self.asked.append(request.path)
        if request.path not in self._answers:
            return Reply(404, {}, b'{"detail": "Not Found"}')
        return Reply(self._status, {}, json.dumps(self._answers[request.path]).encode())

    async def aclose(self) -> None:
        await self._inner.aclose()


def account_on(simulator: Simulator, answers: Mapping[str, Any], status: int = 200) -> Session:
    return Session(DEFAULT_API_KEY, wire=AccountWire(simulator, answers, status), rate=FAST)


ROW = {"balance": "12.5", "usage": "1", "usageDaysLeft": 3, "featureKey": "gpu"}


@pytest.mark.parametrize(
    ("answer", "balance"),
    [
        ([ROW], "12.5"),
        (ROW, "12.5"),
        ({"data": [ROW]}, "12.5"),
        ([{"balance": 0}], "0"),
        ([{"balance": "-3.20"}], "-3.2"),
        ([{"balance": "7", "usage": {}, "overage": "much", "usageDaysLeft": None}], "7"),
        ([ROW, {"balance": "2.5"}, {"featureKey": "other"}, None], "15"),
    ],
)
async def test_a_balance_is_read_in_any_form(answer: Any, balance: str) -> None:
    async with account_on(Simulator(), {BALANCES: answer}) as fluence:
        assert (await fluence.account.balance()).balance == Decimal(balance)


@pytest.mark.parametrize("answer", [[], {}, None, "12", [{"balance": None}], [{"balance": "1E+99"}], [[ROW]]])
async def test_a_missing_balance_is_not_zero(answer: Any) -> None:
    async with account_on(Simulator(), {BALANCES: answer}) as fluence:
        with pytest.raises(DecodeError):
            await fluence.account.balance()
        assert await known_balance(fluence.account) is None


@pytest.mark.parametrize(
    ("answer", "permissions"),
    [
        ({"permissions": ["gpu:read", "gpu:write"]}, ("gpu:read", "gpu:write")),
        ({"permissions": []}, ()),
        ({"permissions": "read write"}, ("read", "write")),
        ({"permissions": {"read": True, "write": False}}, ("read",)),
        ({"permissions": [{"name": "read"}, {"odd": 1}, 5]}, ("read",)),
        ({"data": {"id": "u", "permissions": ["read"]}}, ("read",)),
    ],
)
async def test_permissions_are_read_in_any_form(answer: Any, permissions: tuple[str, ...]) -> None:
    async with account_on(Simulator(), {ME: answer}) as fluence:
        assert await fluence.account.permissions() == permissions


async def test_no_permissions_in_an_answer_is_an_error() -> None:
    async with account_on(Simulator(), {ME: {"id": "u"}}) as fluence:
        with pytest.raises(DecodeError):
            await fluence.account.permissions()


async def test_only_the_account_is_outside_gpu_paths() -> None:
    async with account_on(Simulator(), {ME: {"permissions": []}}) as fluence:
        assert (await fluence.request("GET", ME)).status == 200
        for path in ("/v1/users", "/v2/users/balances/", "/v1/users/me/keys"):
            with pytest.raises(FluenceError, match="not a path"):
                await fluence.request("GET", path)


def specs(simulator: Simulator, count: int) -> list[Spec]:
    spec: ContainerSpec = container_spec(simulator, "exp-{i}")
    return list(spec.many(count))


async def test_an_unpayable_launch_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulator = Simulator()
    upfront = 3 * simulator.catalog.find("container").hourly
    caplog.set_level(logging.INFO)
    async with account_on(simulator, {BALANCES: [{"balance": str(2 * upfront)}]}) as fluence:
        with pytest.raises(InsufficientBalanceError, match="nothing was deployed"):
            await fluence.deploy_all_and_wait(specs(simulator, 3), max_hourly=1000)
        assert simulator.count("POST /gpu/instances/") == 0
        report = await fluence.deploy_all_and_wait(specs(simulator, 2), max_hourly=1000)
        assert len(report.instances) == 2
        assert "pays 3 hours" in caplog.text
        for instance in report.instances:
            await fluence.terminate_and_wait(instance)
    assert simulator.live() == []


async def test_the_balance_must_pay_min_ready_only() -> None:
    simulator = Simulator()
    upfront = 3 * simulator.catalog.find("container").hourly
    async with account_on(simulator, {BALANCES: [{"balance": str(2 * upfront)}]}) as fluence:
        report = await fluence.deploy_all_and_wait(specs(simulator, 3), max_hourly=1000, min_ready=2)
        assert len(report.instances) == 3  # the simulated account has more than it says
        more = list(container_spec(simulator, "more-{i}").many(3))
        with pytest.raises(InsufficientBalanceError):
            await fluence.deploy_all_and_wait(more, max_hourly=1000, min_ready=3)
        for instance in report.instances:
            await fluence.terminate_and_wait(instance)
    assert simulator.live() == []


@pytest.mark.parametrize(
    ("answers", "status"), [({}, 200), ({BALANCES: []}, 200), ({BALANCES: {"detail": "x"}}, 403)]
)
async def test_an_unreadable_balance_stops_no_launch(answers: Mapping[str, Any], status: int) -> None:
    simulator = Simulator()
    async with account_on(simulator, answers, status) as fluence:
        report = await fluence.deploy_all_and_wait(specs(simulator, 2), max_hourly=1000)
        assert len(report.instances) == 2
        for instance in report.instances:
            await fluence.terminate_and_wait(instance)


async def test_no_ceiling_requests_no_balance() -> None:
    simulator = Simulator()
    wire = AccountWire(simulator, {})
    async with Session(DEFAULT_API_KEY, wire=wire, rate=FAST) as fluence:
        (instance,) = (await fluence.deploy_all_and_wait(specs(simulator, 1))).instances
        await fluence.terminate_and_wait(instance)
        with pytest.raises(NotFoundError):
            await fluence.account.balance()
    assert wire.asked == [BALANCES]
