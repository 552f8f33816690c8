"""Faults as outcomes: what is answered, and whether the request took effect."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aiofluence.simulator import Effect, Fault, FaultOutcome, Simulator

from .driver import Driver, request, text

DEPLOY = "POST /gpu/instances/"
LIST = "GET /gpu/instances/"


def receive(driver: Driver, method: str, path: str, body: Any = None) -> FaultOutcome:
    return driver.sim.receive(request(method, path, body), driver.now)


def deploy(driver: Driver) -> FaultOutcome:
    return receive(driver, "POST", "/gpu/instances/", driver.container_body())


BREAKS = [
    (Fault.reset(), Effect.RESET),
    (Fault.hang(), Effect.HANG),
    (Fault.cut(), Effect.CUT),
    (Fault.status(502), Effect.REPLY),
    (Fault.body({}), Effect.REPLY),
]


@pytest.mark.parametrize(("fault", "effect"), BREAKS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_faults_before_or_after_the_commit(fault: Fault, effect: Effect, when: Any) -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, fault, when=when)
    outcome = deploy(driver)
    assert outcome.effect is effect
    assert (outcome.reply is None) == (effect in (Effect.RESET, Effect.HANG))
    assert len(driver.sim.live()) == (when == "after")
    assert deploy(driver).effect is Effect.REPLY
    assert driver.sim.count(DEPLOY) == 2


def test_a_refused_connection_is_never_seen() -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, Fault.refuse(), times=2)
    assert [deploy(driver).effect for _ in range(3)] == [Effect.REFUSE, Effect.REFUSE, Effect.REPLY]
    assert driver.sim.count(DEPLOY) == len(driver.sim.live()) == 1


def test_scripts_strike_their_operation_in_order() -> None:
    driver = Driver()
    driver.sim.fail(LIST, Fault.status(503, headers={"Retry-After": "3"}), times=2)
    driver.sim.fail(LIST, Fault.status(429))
    driver.sim.fail("*", Fault.status(500), skip=3)
    replies = [receive(driver, "GET", "/gpu/instances/").reply for _ in range(5)]
    assert [reply and reply.status for reply in replies] == [503, 503, 429, 200, 200]
    assert replies[0] is not None
    assert replies[0].headers["Retry-After"] == "3"
    plans = [receive(driver, "GET", "/gpu/plans/").reply for _ in range(2)]
    assert [reply and reply.status for reply in plans] == [200, 500]


def test_a_script_can_last_and_be_cancelled() -> None:
    driver = Driver()
    script = driver.sim.fail(DEPLOY, Fault.reset(), times=None)
    assert {deploy(driver).effect for _ in range(50)} == {Effect.RESET}
    script.cancel()
    assert deploy(driver).effect is Effect.REPLY
    driver.sim.fail(DEPLOY, Fault.reset(), times=None)
    driver.sim.clear_faults()
    assert deploy(driver).effect is Effect.REPLY


def test_a_script_for_one_instance() -> None:
    driver = Driver()
    one, two = (driver.deploy(driver.container_body(name)) for name in ("one", "two"))
    driver.sim.fail(f"GET /gpu/instances/{one}", Fault.status(401))
    statuses = [receive(driver, "GET", f"/gpu/instances/{i}").reply for i in (two, one, one)]
    assert [reply and reply.status for reply in statuses] == [200, 401, 200]


def test_a_commit_after_the_client_has_given_up() -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, Fault.hang(), commit_after=80.0)
    assert deploy(driver).effect is Effect.HANG
    driver.now = 79.9
    assert text(receive(driver, "GET", "/gpu/instances/").reply or pytest.fail("no reply")) == []
    driver.sim.advance(500.0)
    (instance,) = driver.sim.live()
    assert instance.created_at == 80.0
    assert instance.state.value == "ACTIVE"
    assert driver.sim.count(DEPLOY) == 1


def test_a_late_commit_obeys_later_rules() -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, Fault.reset(), commit_after=80.0)
    deploy(driver)
    driver.sim.set_balance(0)
    driver.sim.advance(100.0)
    assert not driver.sim.instances()


@pytest.mark.parametrize(
    ("fault", "status", "kind", "body"),
    [
        (Fault.status(502), 502, "text/html", b"<html>"),
        (Fault.status(504, b""), 504, None, b""),
        (Fault.status(500, {"detail": "oops"}), 500, "application/json", b'{"detail": "oops"}'),
        (Fault.status(500), 500, "application/json", b'{"detail"'),
        (Fault.status(301, headers={"Location": "https://elsewhere.example/"}), 301, None, b""),
        (Fault.status(200, "<html>"), 200, "text/html", b"<html>"),
        (Fault.status(200, b"{", {"Content-Type": "application/json"}), 200, "application/json", b"{"),
        (Fault.body(b"\xff\xfe"), 200, "application/json", b"\xff"),
        (Fault.body({"instance_id": 7}), 200, "application/json", b'{"instance_id": 7}'),
    ],
)
def test_what_a_fault_answers(fault: Fault, status: int, kind: str | None, body: bytes) -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, fault)
    reply = deploy(driver).reply
    assert reply is not None
    assert reply.status == status
    assert reply.headers.get("Content-Type") == kind
    assert reply.body.startswith(body)
    assert bool(reply.body) == bool(body)
    assert "Date" in reply.headers


def test_headers_of_a_fault_win() -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, Fault.status(429, headers={"Date": "Thu, 01 Jan 2026 10:30:00 GMT"}))
    reply = deploy(driver).reply
    assert reply is not None
    assert reply.headers["Date"] == "Thu, 01 Jan 2026 10:30:00 GMT"


def test_another_body_keeps_the_true_status() -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, Fault.body({}), when="after")
    reply = deploy(driver).reply
    assert reply is not None
    assert (reply.status, reply.body) == (201, b"{}")


def test_a_slow_answer_is_the_true_answer() -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, Fault.slow(30.0))
    outcome = deploy(driver)
    assert outcome.delay == 30.0
    assert outcome.reply is not None
    assert text(outcome.reply)["instance_id"] == driver.sim.live()[0].id


def test_a_random_slow_answer_is_true() -> None:
    driver = Driver()
    driver.sim.random_faults(1.0, choices=[Fault.slow(5.0)])
    outcomes = [receive(driver, "GET", "/gpu/plans/") for _ in range(20)]
    assert {(o.delay, o.reply.status if o.reply else None) for o in outcomes} == {(5.0, 200)}


def test_a_cut_without_a_body_is_a_reset() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    driver.sim.fail("DELETE /gpu/instances/{id}", Fault.cut(), when="after")
    assert receive(driver, "DELETE", f"/gpu/instances/{instance_id}") == FaultOutcome(None, Effect.RESET)
    assert not driver.sim.live()


def test_a_cut_answer_is_half_of_the_true_one() -> None:
    driver = Driver()
    driver.sim.fail(DEPLOY, Fault.cut(), when="after")
    outcome = deploy(driver)
    assert outcome.reply is not None
    whole = f'{{"instance_id": "{driver.sim.live()[0].id}"}}'.encode()
    assert outcome.reply.body == whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("operation", "fault", "options"),
    [
        ("POST /instances/", Fault.reset(), {}),
        ("PATCH /gpu/instances/", Fault.reset(), {}),
        ("", Fault.reset(), {}),
        (DEPLOY, Fault.refuse(), {"when": "after"}),
        (DEPLOY, Fault.refuse(), {"commit_after": 1.0}),
        (DEPLOY, Fault.reset(), {"when": "after", "commit_after": 1.0}),
        (DEPLOY, Fault.slow(1.0), {"commit_after": 1.0}),
    ],
)
def test_scripts_that_make_no_sense(operation: str, fault: Fault, options: Any) -> None:
    with pytest.raises(ValueError, match=r"operation|never made|commit_after"):
        Simulator().fail(operation, fault, **options)


def test_random_faults_follow_their_seed_and_rate() -> None:
    def run(seed: int) -> list[tuple[Effect, int | None]]:
        driver = Driver()
        driver.sim.random_faults(0.2, seed=seed)
        outcomes = [receive(driver, "GET", "/gpu/instances/") for _ in range(2000)]
        return [(o.effect, o.reply.status if o.reply else None) for o in outcomes]

    outcomes = run(1)
    assert outcomes == run(1) != run(2)
    struck = Counter(outcome for outcome in outcomes if outcome != (Effect.REPLY, 200))
    assert 320 < struck.total() < 480
    assert len(struck) == 8


def test_random_refusals_never_commit() -> None:
    driver = Driver(balance=10**6)
    driver.sim.random_faults(1.0)
    tally: Counter[tuple[str, bool]] = Counter()
    for _ in range(400):
        before = len(driver.sim.instances())
        outcome = deploy(driver)
        what = str(outcome.reply.status) if outcome.reply else outcome.effect.value
        tally[what, len(driver.sim.instances()) > before] += 1
    for certain in ("429", "503", "refuse"):
        assert tally[certain, False]
        assert not tally[certain, True]
    for unclear in ("500", "502", "504", "reset"):
        assert tally[unclear, False]
        assert tally[unclear, True]


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Simulator().random_faults(rate)
