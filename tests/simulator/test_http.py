"""Checks around the endpoints: key, path, method, headers, pace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import attrs
import pytest

from aiofluence.http.messages import Request
from aiofluence.simulator import ServerRateLimit, Simulator

from .driver import Driver, request, text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X-API-KEY": "wrong"}, 403),
        ({"Authorization": "Bearer simulator-key"}, 200),
        ({"Authorization": "Bearer wrong"}, 403),
        ({"Authorization": "Basic simulator-key"}, 403),
        ({"X-API-KEY": ""}, 400),
        ({"X-API-KEY": "simulator key"}, 400),
        ({"X-API-KEY": "simulator-key\x7f"}, 400),
        ({"X-API-KEY": "simulator-key"}, 200),
        ({"x-api-key": "simulator-key"}, 200),
    ],
)
def test_the_key_opens_the_door(headers: dict[str, str], status: int) -> None:
    reply = Simulator().handle(Request("GET", "/gpu/plans/", headers=headers), 0.0)
    assert reply.status == status
    if status == 403:
        assert text(reply)["code"] == "forbidden"


def test_the_key_is_asked_for_on_every_path() -> None:
    for path in ("/", "/gpu/nothing", "/gpu/instances"):
        assert Simulator().handle(Request("GET", path), 0.0).status == 403


def test_another_key_may_be_chosen() -> None:
    sim = Simulator(api_key="k2")
    assert sim.handle(Request("GET", "/gpu/plans/", headers={"X-API-KEY": "k2"}), 0.0).status == 200


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/gpu/plans", "/gpu/plans/"),
        ("/gpu/plans/vms/", "/gpu/plans/vms"),
        ("/gpu/instances", "/gpu/instances/"),
        ("/gpu/instances/vms/", "/gpu/instances/vms"),
        ("/gpu/instances/abc/", "/gpu/instances/abc"),
        ("/gpu/instances/abc/logs/", "/gpu/instances/abc/logs"),
        ("/gpu/default-images", "/gpu/default-images/"),
    ],
)
def test_a_wrong_slash_is_redirected(path: str, right: str) -> None:
    reply = Driver().send("GET", path)
    assert (reply.status, reply.headers["Location"], reply.body) == (307, right, b"")
    with_query = Driver().send("GET", path, last="5")
    assert with_query.headers["Location"] == f"{right}?last=5"


@pytest.mark.parametrize(
    "path", ["/", "/gpu", "/gpu/", "/plans/", "/gpu/instances/a/b", "/gpu/instances//logs"]
)
def test_unknown_paths(path: str) -> None:
    reply = Driver().send("GET", path)
    assert (reply.status, text(reply)) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/gpu/plans/", "GET"),
        ("PATCH", "/gpu/instances/x", "DELETE, GET, PUT"),
        ("PUT", "/gpu/instances/", "GET, POST"),
        ("POST", "/gpu/instances/x/logs", "GET"),
        ("GET", "/gpu/instances/vms/x/logs", None),
    ],
)
def test_wrong_methods(method: str, path: str, allow: str | None) -> None:
    reply = Driver().send(method, path)
    assert reply.status == (405 if allow else 404)
    assert reply.headers.get("Allow") == allow


def test_every_reply_has_the_services_date() -> None:
    driver = Driver(start=datetime(2031, 5, 17, 23, 59, 50, tzinfo=UTC))
    driver.now = 15.0
    for method, path in (
        ("GET", "/gpu/plans/"),
        ("GET", "/x"),
        ("POST", "/gpu/instances/"),
        ("GET", "/gpu/plans"),
    ):
        date = driver.send(method, path).headers["Date"]
        assert parsedate_to_datetime(date) == datetime(2031, 5, 18, 0, 0, 5, tzinfo=UTC)
    assert driver.send("GET", "/gpu/plans/").headers["Date"] == "Sun, 18 May 2031 00:00:05 GMT"


def test_start_is_taken_in_utc_and_needs_a_zone() -> None:
    start = datetime(2026, 1, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    driver = Driver(start=start)
    instance_id = driver.deploy(driver.container_body())
    created = driver.get(f"/gpu/instances/{instance_id}")["created_at"]
    assert created == "2026-01-01T10:00:00.000000Z"
    assert driver.sim.time == start
    with pytest.raises(ValueError, match="time zone"):
        Simulator(start=datetime(2026, 1, 1))


def test_the_services_own_pace() -> None:
    driver = Driver(rate_limit=ServerRateLimit(2.0, burst=3, retry_after=7))

    def statuses(number: int) -> list[int]:
        return [driver.send("GET", "/gpu/instances/").status for _ in range(number)]

    assert statuses(5) == [200, 200, 200, 429, 429]
    refused = driver.send("GET", "/gpu/instances/")
    assert refused.headers["Retry-After"] == "7"
    driver.now = 0.5
    assert statuses(2) == [200, 429]
    driver.now = 100.0
    assert statuses(4) == [200, 200, 200, 429]
    driver.sim.rate_limit = None
    assert statuses(10) == [200] * 10
    driver.sim.rate_limit = ServerRateLimit(1.0, retry_after=None, status=503)
    assert statuses(2) == [200, 503]
    assert "Retry-After" not in driver.send("GET", "/gpu/instances/").headers


def test_a_client_at_the_exact_rate_passes() -> None:
    driver = Driver(rate_limit=ServerRateLimit(10.0))
    for index in range(1000):
        driver.now = index * 0.1
        assert driver.send("GET", "/gpu/instances/").status == 200


def test_a_refused_pace_commits_nothing() -> None:
    driver = Driver(rate_limit=ServerRateLimit(1.0))
    driver.get("/gpu/instances/")
    assert driver.send("POST", "/gpu/instances/", driver.container_body()).status == 429
    assert not driver.sim.instances()


def test_requests_are_noted_under_their_operation() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    driver.send("GET", f"/gpu/instances/{instance_id}/logs")
    driver.send("GET", "/gpu/nothing")
    seen = [(r.at, r.operation, r.path, r.status) for r in driver.sim.requests]
    assert seen == [
        (0.0, "POST /gpu/instances/", "/gpu/instances/", 201),
        (200.0, "GET /gpu/instances/{id}/logs", f"/gpu/instances/{instance_id}/logs", 200),
        (200.0, None, "/gpu/nothing", 404),
    ]
    assert driver.sim.count() == 3
    assert driver.sim.count("POST /gpu/instances/") == 1


def test_answering_does_not_change_a_request() -> None:
    asked = request("GET", "/gpu/plans/")
    copy = attrs.evolve(asked)
    Simulator().handle(asked, 0.0)
    assert asked == copy
