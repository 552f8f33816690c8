from __future__ import annotations

from typing import Any

import pytest

from .driver import KEY, Driver, text


def change(**settings: Any) -> dict[str, Any]:
    return {"name": "job", "container_settings": {"image": "docker.io/library/debian:12", **settings}}


def test_an_update_replaces_all_but_the_ports() -> None:
    driver = Driver()
    body = driver.container_body(
        environment=[{"name": "A", "value": "1"}], startup_command="sleep inf", expose=[{"port": "22"}]
    )
    path = f"/gpu/instances/{driver.deploy(body | {'ssh_key': KEY})}"
    driver.now = 200.0
    before = driver.get(path)
    reply = driver.send("PUT", path, change(expose=[{"port": "9999"}]) | {"name": "renamed"})
    assert (reply.status, reply.body) == (204, b"")
    driver.now = 219.9
    assert driver.get(path) == before
    driver.now = 220.0
    after = driver.get(path)
    assert after["container_info"] == {
        "image": "docker.io/library/debian:12",
        "expose": [{"port": "22", "protocol": "tcp"}],
        "environment": [],
        "startup_command": None,
    }
    assert after["name"] == "renamed"
    assert after["network"] == before["network"]
    assert after["updated_at"] > before["updated_at"]


def test_a_second_update_is_refused() -> None:
    driver = Driver()
    path = f"/gpu/instances/{driver.active_container()}"
    assert driver.send("PUT", path, change()).status == 204
    driver.now += 19.9
    reply = driver.send("PUT", path, change())
    assert reply.status == 400
    assert "in progress" in text(reply)["detail"]
    driver.now += 0.1
    assert driver.send("PUT", path, change()).status == 204


@pytest.mark.parametrize("with_key", [True, False])
def test_ssh_pubkey_in_an_update_is_refused(with_key: bool) -> None:
    driver = Driver()
    path = f"/gpu/instances/{driver.active_container()}"
    body = change(environment=[{"name": "SSH_PUBKEY", "value": KEY}])
    reply = driver.send("PUT", path, body | ({"ssh_key": KEY} if with_key else {}))
    assert reply.status == (422 if with_key else 204)
    if with_key:
        (problem,) = text(reply)["detail"]
        assert problem["loc"] == ["body", "container_settings", "environment", 0, "name"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "job"},
        change(image="UPPER"),
        change() | {"name": "-"},
        change(environment=[{"name": f"V{n}", "value": ""} for n in range(65)]),
        change(startup_command="x" * 2049),
        change(credentials={"host": "quay.io", "username": "", "password": ""}),
    ],
)
def test_an_update_is_checked_like_a_deploy(body: Any) -> None:
    driver = Driver()
    path = f"/gpu/instances/{driver.active_container()}"
    assert driver.send("PUT", path, body).status == 422
    assert driver.send("PUT", path, change()).status == 204


def test_only_active_containers_can_be_updated() -> None:
    driver = Driver()
    path = f"/gpu/instances/{driver.deploy(driver.container_body())}"
    assert driver.send("PUT", path, change()).status == 400
    driver.now = 200.0
    assert driver.send("PUT", path, change()).status == 204
    assert driver.send("DELETE", path).status == 204
    driver.now = 300.0
    detail = driver.get(path)
    assert detail["container_info"]["image"] == "docker.io/library/ubuntu:24.04"  # the end came first
    assert detail["instance_status"] == "ENDED"
    assert driver.send("PUT", path, change()).status == 400


def test_an_update_brings_a_new_pod() -> None:
    driver = Driver()
    path = f"/gpu/instances/{driver.active_container()}"
    old = {line.split("]")[0] for line in driver.get(f"{path}/logs")}
    driver.send("PUT", path, change())
    driver.now = 230.0
    new = {line.split("]")[0] for line in driver.get(f"{path}/logs")}
    assert len(old) == len(new) == 1
    assert old.isdisjoint(new)
    events = driver.get(f"{path}/events")
    assert any("[Killing]" in event for event in events)
    assert sum("[Started]" in event for event in events) == 2
