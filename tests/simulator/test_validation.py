"""Every rule of what may be sent, each at its border."""

from __future__ import annotations

from typing import Any

import pytest

from .driver import KEY, Driver, text


def problems(driver: Driver, body: Any, path: str = "/gpu/instances/", method: str = "POST") -> list[Any]:
    """The 422 of a request: (type, loc) of each problem."""
    reply = driver.send(method, path, body)
    assert reply.status == 422, reply.body
    for problem in text(reply)["detail"]:
        assert {"type", "loc", "msg", "input"} <= set(problem) <= {"type", "loc", "msg", "input", "ctx"}
    return [(problem["type"], problem["loc"]) for problem in text(reply)["detail"]]


def variables(number: int) -> list[dict[str, str]]:
    return [{"name": f"V{index}", "value": "x"} for index in range(number)]


def ports(number: int) -> list[dict[str, str]]:
    return [{"port": str(8000 + index)} for index in range(number)]


def variable(name: str) -> dict[str, str]:
    return {"name": name, "value": ""}


SETTINGS = ["body", "container_settings"]
QUAY = {"host": "quay.io", "username": "me", "password": "s3cret"}


@pytest.mark.parametrize("name", ["a", "7", "a-b", "a--b", "x" * 25])
def test_names_that_are_taken(name: str) -> None:
    driver = Driver()
    driver.deploy(driver.container_body(name))
    driver.deploy(driver.vm_body(name), "/gpu/instances/vms")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "string_too_short"),
        ("x" * 26, "string_too_long"),
        ("-a", "string_pattern_mismatch"),
        ("a-", "string_pattern_mismatch"),
        ("A", "string_pattern_mismatch"),
        ("a_b", "string_pattern_mismatch"),
        ("a\n", "string_pattern_mismatch"),
        ("é", "string_pattern_mismatch"),
        (7, "string_type"),
        (None, "string_type"),
    ],
)
def test_names_that_are_refused(name: Any, kind: str) -> None:
    driver = Driver()
    assert problems(driver, driver.container_body() | {"name": name}) == [(kind, ["body", "name"])]
    machine = driver.vm_body() | {"name": name}
    assert problems(driver, machine, "/gpu/instances/vms") == [(kind, ["body", "name"])]


@pytest.mark.parametrize(
    "settings",
    [
        {"image": "a"},
        {"image": "x" * 255},
        {"expose": ports(1)},
        {"expose": ports(10)},
        {"expose": [{"port": "1"}, {"port": "65535", "protocol": "udp"}]},
        {"expose": [{"port": "80", "protocol": "http"}, {"port": "81", "protocol": "tcp"}]},
        {"environment": None, "startup_command": None, "credentials": None},
        {"environment": variables(64)},
        {"environment": [{"name": "SSH_PUBKEY", "value": KEY}]},  # without an ssh_key
        {"environment": [{"name": "A_1", "value": ""}]},
        {"startup_command": "x" * 2048},
        {"credentials": {"host": "docker.io", "username": "me", "password": "s3cret"}},
        {"credentials": {"host": "ghcr.io", "username": "me", "password": "s3cret"}},
        {"field_of_tomorrow": 1},
    ],
)
def test_settings_that_are_taken(settings: dict[str, Any]) -> None:
    driver = Driver()
    driver.deploy(driver.container_body(**settings))


@pytest.mark.parametrize(
    ("settings", "kind", "where"),
    [
        ({"image": ""}, "string_too_short", ["image"]),
        ({"image": "x" * 256}, "string_too_long", ["image"]),
        ({"image": "Ubuntu"}, "value_error", ["image"]),
        ({"image": None}, "string_type", ["image"]),
        ({"expose": []}, "too_short", ["expose"]),
        ({"expose": ports(11)}, "too_long", ["expose"]),
        ({"expose": None}, "list_type", ["expose"]),
        ({"expose": ["22"]}, "model_attributes_type", ["expose", 0]),
        ({"expose": [{}]}, "missing", ["expose", 0, "port"]),
        ({"expose": [{"port": 22}]}, "string_type", ["expose", 0, "port"]),
        ({"expose": [{"port": "22"}, {"port": "0"}]}, "value_error", ["expose", 1, "port"]),
        ({"expose": [{"port": "65536"}]}, "value_error", ["expose", 0, "port"]),
        ({"expose": [{"port": "ssh"}]}, "value_error", ["expose", 0, "port"]),
        ({"expose": [{"port": "-1"}]}, "value_error", ["expose", 0, "port"]),
        ({"expose": [{"port": "22", "protocol": "sctp"}]}, "literal_error", ["expose", 0, "protocol"]),
        ({"expose": [{"port": "22", "protocol": []}]}, "literal_error", ["expose", 0, "protocol"]),
        ({"expose": [{"port": "8080", "protocol": "http"}]}, "value_error", ["expose", 0]),
        ({"environment": variables(65)}, "too_long", ["environment"]),
        ({"environment": {}}, "list_type", ["environment"]),
        ({"environment": [variable("a")]}, "string_pattern_mismatch", ["environment", 0, "name"]),
        ({"environment": [variable("1A")]}, "string_pattern_mismatch", ["environment", 0, "name"]),
        ({"environment": [variable("_A")]}, "string_pattern_mismatch", ["environment", 0, "name"]),
        ({"environment": [{"name": "A"}]}, "missing", ["environment", 0, "value"]),
        ({"environment": [{"name": "A", "value": 1}]}, "string_type", ["environment", 0, "value"]),
        ({"startup_command": "x" * 2049}, "string_too_long", ["startup_command"]),
        ({"startup_command": ["sh"]}, "string_type", ["startup_command"]),
        ({"credentials": QUAY}, "value_error", ["credentials", "host"]),
        ({"credentials": {"host": "ghcr.io", "username": "me"}}, "missing", ["credentials", "password"]),
        ({"credentials": "me:secret"}, "model_attributes_type", ["credentials"]),
    ],
)  # fmt: skip
def test_settings_that_are_refused(settings: dict[str, Any], kind: str, where: list[Any]) -> None:
    driver = Driver()
    assert problems(driver, driver.container_body(**settings)) == [(kind, [*SETTINGS, *where])]
    assert not driver.sim.ledger


@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        ({"plan_id": "h100"}, "uuid_parsing", ["plan_id"]),
        ({"plan_id": None}, "uuid_parsing", ["plan_id"]),
        ({"ssh_key": 1}, "string_type", ["ssh_key"]),
        ({"container_settings": None}, "model_attributes_type", ["container_settings"]),
        ({"constraints": "US"}, "model_attributes_type", ["constraints"]),
        ({"constraints": {"location": "usa"}}, "string_pattern_mismatch", ["constraints", "location"]),
        ({"constraints": {"location": "us"}}, "string_pattern_mismatch", ["constraints", "location"]),
    ],
)
def test_container_fields_that_are_refused(change: dict[str, Any], kind: str, where: list[Any]) -> None:
    driver = Driver()
    assert problems(driver, driver.container_body() | change) == [(kind, ["body", *where])]


@pytest.mark.parametrize("path", ["/gpu/instances/vms", "/gpu/instances/baremetal"])
def test_a_machine_needs_each_of_its_four_fields(path: str) -> None:
    found = problems(Driver(), {}, path)
    assert found == [("missing", ["body", key]) for key in ("plan_id", "name", "ssh_key", "os_image")]


def test_an_empty_ssh_key_is_none_for_a_machine() -> None:
    driver = Driver()
    body = driver.vm_body() | {"ssh_key": ""}
    assert problems(driver, body, "/gpu/instances/vms") == [("string_too_short", ["body", "ssh_key"])]


def test_the_quoted_refusal_word_for_word() -> None:
    driver = Driver()
    reply = driver.send("POST", "/gpu/instances/", driver.container_body(expose=[{"port": "999999999"}]))
    assert reply.status == 422
    assert text(reply) == {
        "detail": [
            {
                "type": "value_error",
                "loc": ["body", "container_settings", "expose", 0, "port"],
                "msg": "Value error, Port must be between 1 and 65535",
                "input": "999999999",
                "ctx": {"error": {}},
            }
        ]
    }


def test_all_problems_are_named_with_their_input() -> None:
    driver = Driver()
    body = driver.container_body("NO", expose=[{"port": "0"}], environment=[{"name": "x", "value": 1}])
    reply = driver.send("POST", "/gpu/instances/", body | {"plan_id": 1})
    assert [problem["input"] for problem in text(reply)["detail"]] == [1, "NO", "0", "x", 1]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "missing"),
        (b"{", "json_invalid"),
        (b"\xff", "json_invalid"),
        (b'{"name": NaN}', "json_invalid"),
        (b"[" * 100_000, "json_invalid"),
        (b"[]", "model_attributes_type"),
        (b"null", "model_attributes_type"),
    ],
)
@pytest.mark.parametrize("path", ["/gpu/instances/", "/gpu/instances/vms"])
def test_bodies_that_are_no_object(body: bytes, kind: str, path: str) -> None:
    found = problems(Driver(), body, path)
    assert [problem for problem, _ in found] == [kind]
    assert found[0][1][0] == "body"


def test_business_rules_of_a_deploy() -> None:
    driver = Driver(balance="1.31")  # three hours of the cheapest RTX 4090 are 1.32
    assert refusal(driver, driver.container_body()) == "Insufficient balance to deploy instance"
    assert "XX" in refusal(driver, driver.container_body() | {"constraints": {"location": "XX"}})
    unknown = "00000000-0000-4000-8000-000000000000"
    assert refusal(driver, driver.container_body() | {"plan_id": unknown}) == "Plan is no longer available"
    vm_option = driver.sim.catalog.find("vm").id
    assert refusal(driver, driver.container_body() | {"plan_id": vm_option}) == "Plan is no longer available"
    assert not driver.sim.ledger
    driver.sim.set_balance("1.32")
    driver.deploy(driver.container_body())
    assert driver.sim.balance == 0


def refusal(driver: Driver, body: Any, path: str = "/gpu/instances/") -> str:
    reply = driver.send("POST", path, body)
    assert reply.status == 400, reply.body
    detail = text(reply)["detail"]
    assert isinstance(detail, str)
    return detail


@pytest.mark.parametrize(
    ("kind", "path"), [("vm", "/gpu/instances/vms"), ("baremetal", "/gpu/instances/baremetal")]
)
def test_an_unsupported_image_lists_valid_ones(kind: Any, path: str) -> None:
    driver = Driver()
    options = driver.sim.catalog.find(kind).os_options
    for wrong in ("windows-11", options[0].swapcase(), ""):
        detail = refusal(driver, driver.vm_body(kind=kind) | {"os_image": wrong}, path)
        assert all(option in detail for option in options)


def test_the_location_is_the_one_asked_for() -> None:
    driver = Driver()
    instance_id = driver.deploy(driver.container_body() | {"constraints": {"location": "UA"}})
    assert driver.get(f"/gpu/instances/{instance_id}")["location"] == "UA"
    anywhere = driver.deploy(driver.container_body() | {"constraints": {}})
    assert driver.get(f"/gpu/instances/{anywhere}")["location"] in ("US", "UA", "PL", "BG")


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("ten", "int_parsing"),
        ("", "int_parsing"),
        ("1.5", "int_parsing"),
        ("0", "greater_than_equal"),
        ("-1", "greater_than_equal"),
    ],
)
@pytest.mark.parametrize("what", ["logs", "events"])
def test_last_is_a_positive_number(last: str, kind: str, what: str) -> None:
    driver = Driver()
    instance_id = driver.active_container()
    reply = driver.send("GET", f"/gpu/instances/{instance_id}/{what}", last=last)
    assert reply.status == 422
    assert [(p["type"], p["loc"]) for p in text(reply)["detail"]] == [(kind, ["query", "last"])]
