"""Random lives, every fault mixed in: nothing paid for twice, forgotten, or taken from its holder.

`benchmarks/lives.py` runs thousands. The second half proves that the judge sees each broken promise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from random import Random
from typing import Any

import attrs
import pytest

from aiofluence import ContainerUpdate, FluenceError, Reply, Request, Session, Wire

from .harness import IMAGE, OTHER_IMAGE, THOROUGH
from .lives import CLASSES, LONGEST, Action, Run, Sabotage, make_spec, resource_of, run_life
from .second_service import PATHS, SecondWire
from .weather import FAULTS

LIVES = 1200 if THOROUGH else 20
CHUNK = 10


@pytest.mark.parametrize("first", range(0, LIVES, CHUNK))
def test_random_lives_break_no_promise(first: int) -> None:
    """A failure shows the life: its faults, its programs and its timeline."""
    for seed in range(first, first + CHUNK):
        verdict = run_life(seed)
        assert not verdict.violations, verdict.story


def test_lives_are_not_empty() -> None:
    """The lives deploy, end and keep instances, and most of the kinds of faults strike."""
    verdicts = [run_life(seed) for seed in range(1000, 1016)]
    assert sum(verdict.counts["rows"] for verdict in verdicts) > 32
    assert sum(verdict.counts["held"] for verdict in verdicts) > 10
    struck = {kind for verdict in verdicts for kind in verdict.kinds}
    assert len(struck & set(FAULTS)) > len(FAULTS) * 0.7


def test_a_life_is_its_number() -> None:
    """Two runs of one seed tell the same story."""
    for seed in (3, 8):
        assert run_life(seed).story == run_life(seed).story


# --- the judge: a broken client for each class -------------------------------------------------------------


async def forget(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Send a POST and drop its id."""
    await resource_of(fluence, spec).post(spec)


async def send_again(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Repeat a POST until an answer comes."""
    run.calls[spec.name] = 1
    while True:
        try:
            run.hold(await resource_of(fluence, spec).post(spec))
        except FluenceError:
            await asyncio.sleep(1)
        else:
            return


async def take_away(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """End what the caller holds."""
    held = run.hold((await fluence.deploy_and_wait(spec)).ref)
    await fluence.request("DELETE", f"{PATHS[spec.kind.value].rstrip('/')}/{held.ref.id}")


async def take_from_others(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """End every live instance of the name, and deploy a new one."""
    path = PATHS[spec.kind.value]
    for row in json.loads((await fluence.request("GET", path)).body):
        if row["name"] == spec.name:
            await fluence.request("DELETE", f"{path.rstrip('/')}/{row['id']}")


async def never_return(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Wait far beyond the timeout."""
    await run.verb("wait", asyncio.sleep(2 * LONGEST), timeout=900)


async def fail_oddly(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Raise what is no FluenceError."""
    raise KeyError(spec.name)


async def post_on_and_on(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Send more POSTs than the policy allows, and hold all of them."""
    run.calls[spec.name] = 1
    for _ in range(5):
        run.hold(await resource_of(fluence, spec).post(spec))


async def update_twice(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Send one PUT two times."""
    held = run.hold((await fluence.deploy_and_wait(make_spec("container", spec.name))).ref)
    for _ in range(2):
        await fluence.update_and_wait(held.ref, ContainerUpdate(name=spec.name, image=OTHER_IMAGE))
        await fluence.update_and_wait(held.ref, ContainerUpdate(name=spec.name, image=IMAGE))


@attrs.frozen
class Forbidding:
    """A wire on which every DELETE is refused."""

    wire: SecondWire

    async def send(self, request: Request) -> Reply:
        """Send anything but a DELETE."""
        if request.method == "DELETE":
            await asyncio.sleep(0.1)
            return Reply(403, {}, b'{"error": "forbidden", "code": "forbidden"}')
        return await self.wire.send(request)

    async def aclose(self) -> None:
        """Close the wire below."""
        await self.wire.aclose()


def forbidding(wire: SecondWire) -> Wire:
    """`wire` without its DELETEs."""
    return Forbidding(wire)


DEPLOYS = ("hold", "rent", "bare", "endpoint", "ensure", "running", "batch", "update")
BROKEN: Mapping[str, tuple[Action | None, tuple[str, ...], Sabotage | None]] = {
    "lost": (forget, (), None),
    "twice": (send_again, ("lost",), None),
    "harmed": (take_away, (), None),
    "foreign": (take_from_others, ("foreign",), None),
    "hang": (never_return, (), None),
    "raised": (fail_oddly, (), None),
    "posts": (post_on_and_on, (), None),
    "rollout": (update_twice, (), None),
    "gave up": (None, ("cancel", "running"), forbidding),
}


def test_every_class_has_a_broken_client() -> None:
    """No class of violations is left without its proof."""
    assert set(BROKEN) == set(CLASSES)


@pytest.mark.parametrize("kind", BROKEN)
def test_the_judge_sees_a_broken_client(kind: str) -> None:
    """The client that breaks one promise is blamed for that promise."""
    action, kinds, sabotage = BROKEN[kind]
    actions = {name: action for name in DEPLOYS if name != "batch"} if action is not None else {}
    blamed: set[str] = set()
    for seed in range(60):
        verdict = run_life(seed, kinds, actions=actions, sabotage=sabotage)
        blamed |= {violation.kind for violation in verdict.violations}
        if kind in blamed:
            break
    assert kind in blamed


def test_a_good_service_is_no_reason_to_blame() -> None:
    """Without a fault there is no violation, and nothing is left but what callers hold."""
    for seed in range(20):
        verdict = run_life(seed, ("batch", "running", "update", "cancel", "leave", "together"))
        assert not verdict.violations, verdict.story
        assert verdict.counts["swept"] == 0
