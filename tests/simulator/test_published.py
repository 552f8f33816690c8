"""Documents that the service has published, against the simulator under `likely`: fields, types and nulls."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aiofluence.simulator import LIKELY, Simulator

from .driver import EXACT, Driver, text

FOLDER = Path(__file__).parent.parent / "fixtures" / "published"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
VMS = "/gpu/instances/vms"
DEBIAN = "docker.io/fluencelabs/debian-ssh-root:11"

_FORMS = (
    ("uuid", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    ("microseconds", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"),
    ("seconds", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    ("address", r"\d+\.\d+\.\d+\.\d+"),
    ("login", r"ssh \w+@\d+\.\d+\.\d+\.\d+"),
    ("digits", r"\d+"),
    ("size", r"\d+Gi"),
    ("slug", r"[a-z0-9]+-\d+gi-(sxm|pcie)-\dgpu-\d+cpu-\d+gi-\d+gi"),
    ("status", r"INITIALIZED|ACTIVE|FAILED|ENDED|STARTED|NOT_STARTED"),
    ("interface", r"sxm|pcie"),
    ("INTERFACE", r"SXM|PCIE"),
    ("type", r"VM|BAREMETAL"),
)


def published(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def shape(value: Any) -> Any:
    """A document without its values: fields in their order, types, forms of texts, nulls."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        shapes: list[Any] = []
        for item in map(shape, value):
            if item not in shapes:
                shapes.append(item)
        return shapes
    if isinstance(value, str):
        return next((form for form, pattern in _FORMS if re.fullmatch(pattern, value)), "text")
    if isinstance(value, bool) or value is None:
        return repr(value)
    return "number"


class Service:
    """A simulator in which everything that the documents show has happened."""

    def __init__(self) -> None:
        self.driver = driver = Driver(Simulator(profile=LIKELY.replace(provisioning=EXACT)))
        ssh = {"ssh_key": "ssh-ed25519 AAAAC3..."}
        body = driver.container_body("hawk", image=DEBIAN) | ssh
        self.ended = f"/gpu/instances/{driver.deploy(body | {'name': 'fowl'})}"
        self.container = f"/gpu/instances/{driver.deploy(body)}"
        driver.sim.fail_next_provisioning()
        driver.deploy(driver.vm_body("chinchilla"), VMS)
        self.vm = f"{VMS}/{driver.deploy(driver.vm_body('booby'), VMS)}"
        driver.now = 200.0
        assert driver.send("DELETE", self.ended).status == 204

    def vm_ended(self) -> Any:
        self.driver.now = 2000.0
        assert self.driver.send("DELETE", self.vm).status == 204
        return self.driver.get(self.vm)


def answer(name: str) -> Any:
    """The simulator's document of that name."""
    service = Service()
    driver = service.driver
    match name:
        case "container_active":
            return driver.get(service.container)
        case "container_ended":
            return driver.get(service.ended)
        case "container_list":
            return driver.get("/gpu/instances/")
        case "container_plans":
            return driver.get("/gpu/plans/")
        case "machine_plans":
            return driver.get("/gpu/plans/vms")
        case "vm_active":
            return driver.get(service.vm)
        case "vm_ended":
            return service.vm_ended()
        case "vm_list":
            return driver.get(VMS)
        case "deploy_reply":
            return text(driver.send("POST", VMS, driver.vm_body("another")))
        case "logs":
            return driver.get(f"{service.container}/logs")
        case "events":
            return driver.get(f"{service.container}/events")
    raise AssertionError(f"{name}: which answer of the service is that?")


ANSWERS = [name for name in NAMES if not name.startswith("error_") and not name.endswith("_request")]


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_match_the_published_ones(name: str) -> None:
    wanted, given = shape(published(name)), shape(answer(name))
    if name == "machine_plans":
        # NVLink differs by option.
        for document in (wanted, given):
            document["data"] = _without_booleans(document["data"])
    assert given == wanted
    assert json.dumps(given) == json.dumps(wanted)  # in the same order


def _without_booleans(value: Any) -> Any:
    """A shape whose booleans are alike, so that lists of shapes may get shorter."""
    if isinstance(value, dict):
        return {key: _without_booleans(item) for key, item in value.items()}
    if isinstance(value, list):
        shapes: list[Any] = []
        for item in map(_without_booleans, value):
            if item not in shapes:
                shapes.append(item)
        return shapes
    return "boolean" if value in ("True", "False") else value


def test_published_plans_are_for_sale() -> None:
    driver = Driver(Simulator(profile="likely"))
    rows = {row["plan"]["id"]: row for row in driver.get("/gpu/plans/")}
    for row in published("container_plans"):
        assert rows[row["plan"]["id"]] == row
    options = {option["id"]: option for option in _options(driver.get("/gpu/plans/vms"))}
    for option in _options(published("machine_plans")):
        assert options[option["id"]] == option


def _options(plans: Any) -> list[Any]:
    return [
        option
        for group in plans["data"]
        for number in group["availability_by_number"]
        for option in number["options"]
    ]


@pytest.mark.parametrize(("name", "path"), [("deploy_container", "/gpu/instances/"), ("deploy_vm", VMS)])
def test_published_requests_are_accepted(name: str, path: str) -> None:
    driver = Driver(Simulator(profile="likely"))
    body = published(f"{name}_request")
    detail = driver.get(f"{path.rstrip('/')}/{driver.deploy(body, path)}")
    assert detail["name"] == body["name"]
    if name == "deploy_vm":
        assert (detail["os_image"], detail["ssh_key"]) == (body["os_image"], body["ssh_key"])
        return
    info, settings = detail["container_info"], body["container_settings"]
    assert detail["location"] == "US"
    assert info["expose"] == settings["expose"]
    assert info["environment"] == [
        *settings["environment"],
        {"name": "SSH_PUBKEY", "value": body["ssh_key"]},
    ]
    assert (info["image"], info["startup_command"]) == (settings["image"], settings["startup_command"])


def test_published_errors_word_for_word() -> None:
    driver = Driver(Simulator(profile="likely"))
    body = published("deploy_vm_request")
    wrong = driver.send("POST", VMS, body | {"os_image": "Ubuntu Server 2.04"})
    assert (wrong.status, text(wrong)) == (400, published("error_400_os_image"))
    order = published("deploy_container_request")
    expose = [{"port": "999999999", "protocol": "tcp"}]
    order["container_settings"] |= {"expose": expose}
    wrong = driver.send("POST", "/gpu/instances/", order)
    assert (wrong.status, text(wrong)) == (422, published("error_422"))
    driver.sim.set_balance(0)
    wrong = driver.send("POST", VMS, body)
    assert (wrong.status, text(wrong)) == (400, published("error_400_balance"))


def test_every_published_document_has_its_test() -> None:
    tested = {
        *ANSWERS, "deploy_container_request", "deploy_vm_request", "error_400_os_image", "error_422",
        "error_400_balance",
    }  # fmt: skip
    assert set(NAMES) == tested
