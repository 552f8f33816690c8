"""The rented container, and the steps that update it: a long line, a program that exits, two images.

`paid_probes` rents the container, reads its first log, and ends it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any, Final

import attrs

from .account import status_of
from .asking import detail_of
from .deploying import Deploy
from .output_probes import compare_events
from .probe import Bench
from .refunded_probes import IMAGE, SSH_KEY

LINES: Final = 3000
FIRST: Final = (
    f"echo conformance-begin; seq 1 {LINES}; printf 'bad \\377 byte\\n'; printf unfinished; sleep 36000"
)
LONG: Final = "echo before; printf '%070000d\\n' 0; echo after; sleep 36000"
EXITS: Final = "echo run; sleep 5; exit 3"
SHELL_IMAGE: Final = "docker.io/library/ubuntu:22.04"
MISSING_IMAGE: Final = "docker.io/fluencelabs/no-such-image:1"
EVERY: Final = 2.0
_UPDATED_WITHIN: Final = 300.0


@attrs.define
class Rental:
    """The rented container, and a clock for its steps."""

    bench: Bench
    deploy: Deploy
    began: float = 0.0
    pods: set[str] = attrs.field(factory=set)
    name: str = ""

    def time(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def watch(
        self, seconds: float, look: Callable[[dict[str, Any]], Awaitable[bool]]
    ) -> dict[str, Any]:
        """Look at the detail every two seconds until `look` returns True, or the time is over."""
        until = self.time() + seconds
        while True:
            detail = await self.deploy.detail()
            if detail and (await look(detail) or status_of(detail) not in ("ACTIVE", "INITIALIZED")):
                return detail
            if self.time() >= until:
                return detail
            await asyncio.sleep(EVERY)

    async def put(self, image: str, command: str | None) -> tuple[int | None, Any]:
        """Send an update. Return the status, None if it is unclear, and the text of a refusal."""
        settings: dict[str, Any] = {"image": image}
        if command is not None:
            settings["startup_command"] = command
        body = {"name": self.name, "container_settings": settings, "ssh_key": SSH_KEY}
        reply = await self.bench.asker.change("PUT", self.deploy.path, body=body)
        return (None, "") if reply is None else (reply.status, detail_of(reply))


def text_of(line: str) -> str:
    return re.sub(r"^\[[^\]]+\]:? ", "", line)


def pod_of(line: str) -> str:
    found = re.match(r"\[([^\]]+)\]", line)
    return found[1] if found else ""


async def update(rental: Rental) -> None:
    """Update the container to a program with a long line, and watch the change."""
    notes, deploy = rental.bench.notes, rental.deploy
    status, _ = await rental.put(IMAGE, LONG)
    if status not in (204, None):
        notes.compare("update", {"first": 204}, {"first": status})
        return
    sent = rental.time()
    second, text = await rental.put(IMAGE, LONG)
    if second is not None:
        notes.compare("update", {"second": 400}, {"second": second})
    if second == 400:
        notes.compare("400-texts", {"second": "Instance update is already in progress"}, {"second": text})
    seen: set[str] = set()

    async def look(detail: dict[str, Any]) -> bool:
        seen.add(str(detail.get("container_status")))
        seen.add("network" if detail.get("network") else "no network")
        reply = await deploy.logs(20)
        seen.add("log error" if reply.status != 200 else "log")
        done = (detail.get("container_info") or {}).get("startup_command") == LONG
        return done and detail.get("container_status") == "STARTED"

    await rental.watch(_UPDATED_WITHIN, look)
    seconds = round(rental.time() - sent)
    notes.judge("update-time", seconds <= 60, {"seconds": 20}, {"seconds": seconds})
    down = "NOT_STARTED" in seen
    notes.compare(
        "downtime",
        {"pod": "stopped first", "network": "unchanged"},
        {
            "pod": "stopped first" if down else "replaced",
            "network": "changed" if "no network" in seen else "unchanged",
        },
    )
    if down:
        notes.compare("logs-creating", "error", "error" if "log error" in seen else "empty")
    await asyncio.sleep(10)
    lines = await deploy.lines()
    is_old = any(pod_of(line) in rental.pods for line in lines)
    notes.compare("old-pod", "gone", "kept" if is_old else "gone")
    _several_pods(rental, lines if is_old else [])
    mine = [text_of(line) for line in lines if pod_of(line) not in rental.pods]
    if "before" in mine:
        cut = not any(len(text) > 65_536 for text in mine) and "after" not in mine
        notes.compare("long-line", "cut", "cut" if cut else "whole" if "after" in mine else "other")
    rental.pods |= {pod_of(line) for line in lines}
    rental.bench.asker.account |= rental.pods


def _several_pods(rental: Rental, lines: list[str]) -> None:
    why = "only one pod was shown at a time"
    if len({pod_of(line) for line in lines}) < 2:
        rental.bench.notes.undecided("last-per-pod", why)
    rental.bench.notes.undecided("racing-pods", why)


async def exits(rental: Rental) -> None:
    """Update the container to a program that exits, and watch its restarts."""
    notes, deploy = rental.bench.notes, rental.deploy
    if not await _changed(rental, IMAGE, EXITS):
        return
    changes: list[tuple[str, float]] = []
    between: list[bool] = []
    pods: set[str] = set()

    async def look(detail: dict[str, Any]) -> bool:
        status = str(detail.get("container_status"))
        if not changes or changes[-1][0] != status:
            changes.append((status, rental.time()))
        lines = await deploy.lines(20)
        pods.update(pod_of(line) for line in lines)
        if status == "NOT_STARTED" and changes[0][0] == "STARTED":
            between.append(any(text_of(line) == "run" for line in lines))
        return False

    detail = await rental.watch(75.0, look)
    rental.pods |= pods
    rental.bench.asker.account |= pods
    over = status_of(detail) not in ("ACTIVE", "")
    starts = [at for status, at in changes if status == "STARTED"]
    outcome = "ended" if over else "restarted" if len(starts) > 1 else "stays"
    for claim in ("restarts", "process-exits"):
        notes.compare(claim, "restarted", outcome)
    notes.compare("commands", "exits", "stays" if outcome == "stays" else "exits")
    if between:
        notes.compare("between-runs", "last run", "last run" if any(between) else "empty")
    pauses = [
        round(later[1] - earlier[1])
        for earlier, later in pairwise(changes)
        if earlier[0] == "NOT_STARTED" and later[0] == "STARTED" and earlier is not changes[0]
    ]
    if len(pauses) >= 2:
        # A pause of one second may be too short to be seen.
        rising = all(a < b for a, b in pairwise(pauses)) and pauses[-1] >= 8
        notes.judge("backoff", rising, {"pauses": "rising"}, {"pauses": pauses})
    events = await deploy.events()
    compare_events(rental.bench, events)
    if len(starts) > 2:  # each start has the same events
        notes.compare("folded", "folded", "folded" if len(set(events)) == len(events) else "repeated")


async def _changed(rental: Rental, image: str, command: str | None) -> bool:
    """Send an update, and wait until the detail shows it. Return False if the service refuses it."""
    status, _ = await rental.put(image, command)
    if status not in (204, 400, None):
        return False

    async def look(detail: dict[str, Any]) -> bool:
        info = detail.get("container_info") or {}
        return info.get("image") == image and info.get("startup_command") == command

    detail = await rental.watch(_UPDATED_WITHIN, look)
    return await look(detail) if detail else False


async def image(rental: Rental) -> None:
    """Update the container to an image whose command is a shell, which exits at once."""
    status, _ = await rental.put(SHELL_IMAGE, None)
    if status is not None:
        rental.bench.notes.compare("update-when", {"crash loop": 204}, {"crash loop": status})
    if status not in (204, None) or not await _changed(rental, SHELL_IMAGE, None):
        return
    seen: set[str] = set()

    async def look(detail: dict[str, Any]) -> bool:
        seen.add(str(detail.get("container_status")))
        return False

    detail = await rental.watch(40.0, look)
    exits = "NOT_STARTED" in seen or status_of(detail) != "ACTIVE"
    rental.bench.notes.compare("images-exit", "exits", "exits" if exits else "stays")


async def missing(rental: Rental) -> None:
    """Update the container to an image that no registry has."""
    if not await _changed(rental, MISSING_IMAGE, None):
        return
    seen: set[str] = set()

    async def look(detail: dict[str, Any]) -> bool:
        seen.add(str(detail.get("container_status")))
        return False

    detail = await rental.watch(30.0, look)
    holds = seen == {"NOT_STARTED"} and status_of(detail) == "ACTIVE"
    observed = "never started" if holds else "ended" if status_of(detail) != "ACTIVE" else "started"
    rental.bench.notes.compare("pull-fails", "never started", observed)
