from __future__ import annotations

import re
from typing import Any

import pytest

from aiofluence.simulator import Simulator, default_catalog

from .driver import Driver

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_container_plan_has_the_contracts_shape() -> None:
    plans = Driver().get("/gpu/plans/")
    assert len(plans) >= 12
    for entry in plans:
        assert set(entry) == {"plan", "attributes"}
        assert set(entry["plan"]) == {"id", "name", "supply", "gpu_model", "pricing"}
        assert UUID.fullmatch(entry["plan"]["id"])
        assert entry["plan"]["gpu_model"]["interface"] in ("SXM", "PCIE")
        assert entry["plan"]["pricing"]["upfront_hours"] == 3
        assert all(re.fullmatch("[A-Z]{2}", country) for country in entry["attributes"]["location"])
    plan = next(e["plan"] for e in plans if e["plan"]["name"] == "h200-141gi-sxm-1gpu-16cpu-128gb-120gb")
    assert plan["gpu_model"] == {"vendor": "nvidia", "model": "h200", "vram": "141Gi", "interface": "SXM"}
    assert plan["supply"] == {
        "vcpu": {"count": 16},
        "memory": {"count": 128, "units": "Gi"},
        "storage": {"count": 120, "units": "Gi"},
        "gpu_count": 1,
    }
    assert plan["pricing"]["currency"] == "USDC"


@pytest.mark.parametrize(("path", "deployment"), [("vms", "VM"), ("baremetal", "BAREMETAL")])
def test_machine_plans_by_gpu_then_count(path: str, deployment: str) -> None:
    groups = Driver().get(f"/gpu/plans/{path}")["data"]
    models = [tuple(group["gpu_model"].values()) for group in groups]
    assert len(models) == len(set(models))
    for group in groups:
        assert set(group) == {"gpu_model", "minimum_price", "availability_by_number"}
        assert group["gpu_model"]["interface"] in ("sxm", "pcie")
        counts = group["availability_by_number"]
        assert group["minimum_price"] == min(count["minimum_price"] for count in counts)
        for count in counts:
            options = count["options"]
            assert count["options_available_total"] == len(options)
            assert count["minimum_price"] == min(option["pricing"]["hour"] for option in options)
            assert count["providers_available_total"] == len(count["providers"])
            assert count["locations"] == sorted({option["location"] for option in options})
            places = {(option["provider"], option["location"]) for option in options}
            assert count["data_center_available_total"] == len(places)
            for option in options:
                assert set(option) == {
                    "id", "location", "provider", "vcpu", "memory", "storage",
                    "deployment_type", "pricing", "nvlink", "os_options",
                }  # fmt: skip
                assert option["deployment_type"] == deployment
                assert option["os_options"]


def test_default_images_have_every_field() -> None:
    images = Driver().get("/gpu/default-images/")
    keys = {
        "slug", "name", "description", "image", "expose", "environment", "startup_command", "requires_ssh",
    }  # fmt: skip
    assert all(set(image) == keys for image in images)
    assert {image["requires_ssh"] for image in images} == {True, False, None}
    assert any(image["description"] is None for image in images)


def test_every_default_image_can_be_deployed() -> None:
    driver = Driver(balance=100_000)
    for index, image in enumerate(driver.get("/gpu/default-images/")):
        settings = {key: image[key] for key in ("image", "expose", "environment", "startup_command")}
        driver.deploy(driver.container_body(f"image-{index}", **settings))


def test_ids_are_unique_and_the_same_in_every_run() -> None:
    offers = default_catalog().offers
    assert len(offers) == len({offer.id for offer in offers.values()}) == 41
    assert list(offers) == list(default_catalog().offers)


def _ids(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {value["id"]} if "id" in value else set().union(*map(_ids, value.values()))
    return set().union(*map(_ids, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize(
    ("kind", "path"),
    [("container", "/gpu/plans/"), ("vm", "/gpu/plans/vms"), ("baremetal", "/gpu/plans/baremetal")],
)
def test_sold_out_until_restocked(kind: Any, path: str) -> None:
    driver = Driver()
    plan_id = driver.sim.catalog.find(kind).id
    assert plan_id in _ids(driver.get(path))
    driver.sim.sell_out(plan_id)
    assert plan_id not in _ids(driver.get(path))
    body = driver.container_body() if kind == "container" else driver.vm_body(kind=kind)
    deploy_path = path.replace("plans", "instances")
    body["plan_id"] = plan_id
    reply = driver.send("POST", deploy_path, body)
    assert (reply.status, reply.body) == (400, b'{"detail": "Plan is no longer available"}')
    assert not driver.sim.ledger
    driver.sim.restock(plan_id)
    assert plan_id in _ids(driver.get(path))
    driver.deploy(body, deploy_path)


def test_an_unknown_plan_cannot_be_sold_out() -> None:
    with pytest.raises(LookupError):
        Simulator().sell_out("no-such-plan")


def test_find_returns_the_cheapest_or_raises() -> None:
    catalog = default_catalog()
    cheapest = catalog.find("vm", "a100")
    assert all(
        cheapest.hourly <= offer.hourly
        for offer in catalog.offers.values()
        if (offer.kind, offer.model) == ("vm", "a100")
    )
    assert catalog.find("container", "h100", 8).gpu_count == 8
    with pytest.raises(LookupError, match="h9000"):
        catalog.find("vm", "h9000")
