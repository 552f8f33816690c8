"""The choice among offers: minimum sizes, places, providers, and what is said when nothing fits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from aiofluence import ConfigError, PlanUnavailableError, Size
from aiofluence.models.places import country_at, is_at, pick_location
from aiofluence.simulator import Fault, Simulator

from ..harness import session_on
from ..test_published import session


@pytest.mark.parametrize(
    "conditions",
    [
        {"min_cpus": 8},
        {"min_memory": "100Gi"},
        {"min_memory": "100GB"},
        {"min_memory": 100 * 2**30},
        {"min_memory": Size.parse("100Gi")},
        {"min_storage": "500Gi"},
        {"min_vram": "80Gi"},
        {"min_cpus": 8, "min_memory": "64Gi", "min_storage": "100Gi", "min_vram": "24Gi", "max_hourly": 3},
    ],
    ids=str,
)
async def test_minimum_sizes(conditions: dict[str, Any]) -> None:
    async with session_on(Simulator()) as fluence:
        everything = await fluence.plans.find()
        found = await fluence.plans.find(**conditions)
        cheapest = await fluence.plans.cheapest(**conditions)
    assert 0 < len(found) < len(everything)
    sizes = {
        name: Size.parse(given) if isinstance(given, str) else given for name, given in conditions.items()
    }
    least = {name: given.bytes if isinstance(given, Size) else given for name, given in sizes.items()}
    fitting = [
        offer
        for offer in everything
        if offer.vcpu >= least.get("min_cpus", 0)
        and offer.memory.bytes >= least.get("min_memory", 0)
        and offer.storage.bytes >= least.get("min_storage", 0)
        and offer.gpu_model.vram.bytes >= least.get("min_vram", 0)
        and offer.hourly <= least.get("max_hourly", 1000)
    ]
    assert found == fitting
    assert cheapest == found[0]


async def test_a_provider_is_found_in_any_spelling() -> None:
    async with session("machine_plans") as fluence:
        for name in ("massed-compute", "Massed Compute", "massedcompute"):
            (offer,) = await fluence.plans.find(kind="vm", provider=name)
            assert offer.provider == "massed-compute"
        assert await fluence.plans.find(kind="vm", provider="massed") == []


async def test_conditions_exclude_the_cheapest_plan() -> None:
    async with session("container_plans") as fluence:
        assert (await fluence.plans.cheapest(kind="container")).vcpu == 1
        offer = await fluence.plans.cheapest(kind="container", min_cpus=8, min_memory="64Gi")
    assert (offer.gpu_model.model, offer.hourly) == ("h200", Decimal("2.96"))


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"gpu": "4090"}, "no gpu '4090' is for rent; close to it: rtx4090"),
        ({"gpu": "h1000"}, "no gpu 'h1000' is for rent; close to it: h100"),
        ({"gpu": "h1000", "max_hourly": 5}, "without gpu=h1000: 1x "),
        ({"gpu": "h100", "max_hourly": "0.01"}, "without max_hourly=0.01: 1x h100"),
        ({"gpu": "t4", "kind": "baremetal"}, "without kind=baremetal: 1x t4"),
        ({"min_memory": "100000Gi", "max_hourly": "0.01"}, "nothing fits without any one of these"),
        ({"provider": "masedcompute"}, "no provider 'masedcompute' is for rent; close to it: massed"),
    ],
)
async def test_when_nothing_fits_it_is_said_what_would(conditions: dict[str, Any], said: str) -> None:
    async with session_on(Simulator()) as fluence:
        assert await fluence.plans.find(**conditions) == []
        with pytest.raises(PlanUnavailableError) as caught:
            await fluence.plans.cheapest(**conditions)
    assert said.lower() in str(caught.value).lower()
    assert "HTTP" not in str(caught.value)
    assert caught.value.status == 0


async def test_what_could_not_be_read_is_said_as_well() -> None:
    simulator = Simulator()
    simulator.fail("GET /gpu/plans/vms", Fault.status(403, {"detail": "no VMs today"}), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(PlanUnavailableError, match="no VMs today"):
            await fluence.plans.cheapest(gpu="abacus")


async def test_every_invalid_argument_is_named() -> None:
    simulator = Simulator()
    wrong: dict[str, Any] = {
        "kind": "tpu",
        "gpu": 5,
        "gpu_count": True,
        "location": "",
        "max_hourly": "much",
        "min_cpus": 0,
        "min_memory": "32 apples",
        "min_storage": -1,
        "min_vram": 1.5,
        "provider": b"x",
    }
    async with session_on(simulator) as fluence:
        for verb in (fluence.plans.find, fluence.plans.cheapest):
            with pytest.raises(ConfigError) as caught:
                await verb(**wrong)
            assert all(f"{name} is" in str(caught.value) for name in wrong)
    assert not simulator.requests


@pytest.mark.parametrize("size", ["80", 80, "80 b"])
async def test_a_size_needs_its_unit(size: str | int) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        with pytest.raises(ConfigError, match=r"min_vram is a size with a unit, such as '32Gi', not '?80"):
            await fluence.plans.find(min_vram=size)
        assert await fluence.plans.find(min_vram=0) == await fluence.plans.find()


@pytest.mark.parametrize(
    ("location", "country"),
    [
        ("US", "US"),
        ("uk", "GB"),
        ("us-central-3", "US"),
        ("us-east-1", "US"),
        ("sanjose-usa-2", "US"),
        ("la-usa-1", "US"),
        ("new-mexico-1", "US"),
        ("Texas", "US"),
        ("kristiansand-norway-2", "NO"),
        ("tokyo-japan-2", "JP"),
        ("Finland 2", "FI"),
        ("london-united-kingdom-1", "GB"),
        ("london-unitedkingdom-1", "GB"),
        ("Québec", "CA"),
        ("Rio de Janeiro", None),
        ("Atlanta, Georgia", None),
        ("eu-west-1", None),
        ("", None),
        ("1", None),
        ("\ud800", None),
    ],
)
def test_the_country_is_read_from_a_location(location: str, country: str | None) -> None:
    assert country_at(location) == country
    assert is_at(location, location)


def test_a_city_is_not_its_country() -> None:
    assert not is_at("us-east-1", "us-central-3")
    assert not is_at("US", "Texas")
    assert pick_location(["US", "NO"], "norway") == "NO"
    assert pick_location(["US", "NO"], "Finland") is None
