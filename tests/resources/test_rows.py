"""Odd rows and failing kinds: lists of plans, offers and images keep the rest."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from aiofluence import ConfigError, DecodeError, ServerError, Session
from aiofluence.display.table import Table
from aiofluence.http.messages import Request
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Simulator, SimulatorWire

from ..harness import VIRTUAL, session_on

DEEP: Any = json.loads("[" * 500 + "]" * 500)
ODD: list[Any] = [None, 5, "plan", [], {}, {"plan": None, "attributes": None}, DEEP]
CONTAINERS = "GET /gpu/plans/"
VMS = "GET /gpu/plans/vms"
BAREMETAL = "GET /gpu/plans/baremetal"
IMAGES = "GET /gpu/default-images/"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def published(simulator: Simulator, operation: str) -> Any:
    """Return the reply of the service to an operation."""
    method, _, path = operation.partition(" ")
    key = {"X-API-KEY": DEFAULT_API_KEY}
    reply = await SimulatorWire(simulator).send(Request(method, path, headers=key))
    return json.loads(reply.body)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_odd_container_plans_hide_no_others(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()
    plans = await published(simulator, CONTAINERS)
    dear = json.loads(json.dumps(plans[0]))
    dear["plan"]["pricing"]["hour"] = "1E+999999999"
    free = json.loads(json.dumps(plans[0]))
    free["plan"]["pricing"]["hour"] = -5
    async with session_on(simulator) as fluence:
        whole = await fluence.plans.containers()
        assert whole.left_out == ()
        simulator.fail(CONTAINERS, Fault.body([*ODD, dear, *plans, free]), times=None)
        for _ in range(2):
            table = await fluence.plans.containers()
            assert table == whole
            assert len(table.left_out) == len(ODD) + 2
            assert all(isinstance(error, DecodeError) for error in table.left_out)
            assert "9 left out" in repr(table)
            assert "9 left out" in table._repr_html_()
            offers = await fluence.with_options(timeout=9).plans.find(kind="container")
            assert len(offers) == len(whole)
            assert offers.left_out[-1].args == table.left_out[-1].args
            assert offers[0].hourly > 0
    (said,) = warnings(caplog)  # once for a session, its views included
    assert said.startswith("GET /gpu/plans/: left out 9 rows")


@pytest.mark.parametrize(("operation", "verb"), [(VMS, "vms"), (BAREMETAL, "baremetal")])
async def test_odd_options_do_not_hide_the_others(operation: str, verb: str) -> None:
    simulator = Simulator()
    answer = await published(simulator, operation)
    options = sum(len(n["options"]) for group in answer["data"] for n in group["availability_by_number"])
    answer["data"][0]["availability_by_number"][0]["options"][0]["pricing"] = {"hour": "cheap"}
    answer["data"][0]["availability_by_number"] += ODD
    answer["data"] += [None, {"gpu_model": None}]
    async with session_on(simulator) as fluence:
        simulator.fail(operation, Fault.body(answer), times=None)
        groups = await getattr(fluence.plans, verb)()
        found = await fluence.plans.find(kind="vm" if verb == "vms" else verb)
    assert len(groups) == len(answer["data"]) - 2
    assert len(found) == options - 1
    assert len(groups.left_out) == len(found.left_out) == 1 + len(ODD) + 2


async def test_odd_images_do_not_hide_the_others() -> None:
    simulator = Simulator()
    images = await published(simulator, IMAGES)
    async with session_on(simulator) as fluence:
        simulator.fail(IMAGES, Fault.body([*ODD, *images]))
        table = await fluence.images.list()
        assert len(table) == len(images)
        assert len(table.left_out) == len(ODD)
        simulator.fail(IMAGES, Fault.body(b"null"))
        assert await fluence.images.list() == []


async def test_a_list_without_readable_rows_is_an_error() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        for operation, call in ((CONTAINERS, fluence.plans.containers), (IMAGES, fluence.images.list)):
            simulator.fail(operation, Fault.body([None]))
            with pytest.raises(DecodeError):
                await call()


async def test_a_failing_kind_hides_no_others(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        whole = await fluence.plans.find()
        simulator.fail(CONTAINERS, Fault.status(500, "down"), times=None)
        simulator.fail(BAREMETAL, Fault.body({"plans": []}), times=None)
        for _ in range(2):
            offers = await fluence.plans.find()
            assert offers == [offer for offer in whole if offer.kind == "vm"]
            assert [type(error) for error in offers.left_out] == [ServerError, DecodeError]
        assert [said.partition(": left out")[0] for said in warnings(caplog)] == [
            "plans.find: container",
            "plans.find: baremetal",
        ]
        with pytest.raises(ServerError):
            await fluence.plans.find(kind="container")
        simulator.fail(VMS, Fault.status(500, "down"), times=None)
        with pytest.raises(ServerError):
            await fluence.plans.find()


async def test_find_names_every_invalid_argument() -> None:
    simulator = Simulator()
    wrong: dict[str, Any] = {
        "kind": "tpu",
        "gpu": 5,
        "gpu_count": 0,
        "location": ["US"],
        "max_hourly": "1E+99",
    }
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError) as caught:
            await fluence.plans.find(**wrong)
        assert all(name in str(caught.value) for name in wrong)
    assert not simulator.requests


async def test_a_table_stays_a_list() -> None:
    table = Table([1, 2, 3], left_out=[DecodeError("odd")])
    assert table == [1, 2, 3]
    assert table[:2].left_out == table.left_out
    assert repr(table) == "[1,\n 2,\n 3,\n … and 1 left out]"
    assert repr(Table([])) == "[]"


def test_a_session_warns_anew() -> None:
    one, other = Session("key-1", base_url="http://localhost"), Session("key-1", base_url="http://localhost")
    assert one._transport.warned is not other._transport.warned
