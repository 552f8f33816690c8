"""The probe that rents one container: times, network, log store, events, updates, restarts, end and bill.

The container runs five programs, one after the other. A step leaves its claims undecided if the container
does not do what it needs.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ..models.specs import ContainerSpec, unique_name
from .account import status_of
from .asking import NO_RESULT, UnfitError, detail_of
from .deploying import HOLD, Deploy, begin_of_hour, deployed
from .output_probes import compare_lines
from .probe import Bench, Level, Probe, probe
from .reading_probes import compare_amounts, compare_periods, compare_ports
from .refunded_probes import IMAGE, SSH_KEY, Early
from .rental import EVERY, FIRST, LINES, Rental, exits, image, missing, pod_of, text_of, update


@probe(
    Level.PAID,
    "times",
    "provisioning",
    "delays",
    "connection-later",
    "ports",
    "clock-hours",
    "cents",
    "terminate",
    "log-lines",
    "log-form",
    "last-max",
    "kept-lines",
    "unfinished-line",
    "empty-answers",
    "shell",
    "secrets-shown",
    "update",
    "400-texts",
    "downtime",
    "update-time",
    "old-pod",
    "long-line",
    "last-per-pod",
    "racing-pods",
    "restarts",
    "process-exits",
    "between-runs",
    "backoff",
    "commands",
    "no-exit-codes",
    "folded",
    "event-form",
    "event-order",
    "images-exit",
    "update-when",
    "pull-fails",
    "terminate-at-once",
    "paid-hour",
    "after-the-end",
    "logs-gone",
    "usage-after-end",
    "list-lag",
    "deploy-status",
    "date",
    "initialized-rent",
    "before-scheduling",
    "logs-creating",
    "any-place",
    "half-cents",
    "next-period",
    requests=700,
)
async def container(bench: Bench) -> None:
    """Rent the cheapest container for one clock hour, and run five programs in it."""
    offer = bench.offer
    if offer is None:
        raise UnfitError("no container plan is for sale")
    await begin_of_hour(bench)
    spec = ContainerSpec(
        name=unique_name("conformance"),
        plan_id=offer.plan_id,
        image=IMAGE,
        expose=[22, "80/http"],
        startup_command=FIRST,
        ssh_key=SSH_KEY,
    )
    early = Early(bench)

    async def before_active(deploy: Deploy) -> None:
        early_end = asyncio.ensure_future(_end_early(bench, deploy))
        try:
            await early(deploy)
        finally:
            await early_end

    async with deployed(bench, spec, before_active) as (deploy, _):
        rental = Rental(bench, deploy, asyncio.get_running_loop().time(), name=spec.name)
        try:
            async with asyncio.timeout(HOLD):
                await _use(rental, early)
        except TimeoutError:
            bench.say("the container was kept for the longest time allowed: the rest stays undecided")


async def _use(rental: Rental, early: Early) -> None:
    for step in (_start, _logs, update, exits, image, missing, _end):
        rental.bench.say(f"  {(step.__doc__ or '').partition('.')[0]}")
        detail = await rental.deploy.detail()
        if detail and status_of(detail) != "ACTIVE":
            rental.bench.say("  the container is over")
            return
        await step(rental)
    if early.logs:
        rental.bench.notes.compare("logs-creating", "error", "error" if "error" in early.logs else "empty")


async def _end_early(bench: Bench, deploy: Deploy) -> None:
    """Send a DELETE while the container is not ACTIVE yet."""
    detail = await deploy.detail()
    if status_of(detail) != "INITIALIZED":
        return
    reply = await bench.asker.ask("DELETE", deploy.path)
    bench.notes.compare("terminate", {"early": 400}, {"early": reply.status})
    if reply.status == 400:
        expected = {"delete": "Only ACTIVE instances can be terminated"}
        bench.notes.compare("400-texts", expected, {"delete": detail_of(reply)})


async def _start(rental: Rental) -> None:
    """Measure the times from the POST to ACTIVE, STARTED, network and domain."""
    notes, deploy = rental.bench.notes, rental.deploy
    if deploy.created.is_set():
        active = round(deploy.age)
        notes.judge("times", 24 <= active <= 216, {"container": 72}, {"container": active})
        notes.judge("provisioning", active >= 5, {"at least": 5}, {"seconds": active})
    seen: dict[str, float] = {}
    late_domain = False

    async def look(detail: dict[str, Any]) -> bool:
        nonlocal late_domain
        network = detail.get("network") or {}
        for name, there in (
            ("start", detail.get("container_status") == "STARTED"),
            ("network", bool(network)),
            ("domain", bool(network.get("domain"))),
        ):
            if there:
                seen.setdefault(name, round(rental.time() - rental.began, 1))
        late_domain = late_domain or "domain" not in seen
        return len(seen) == 3

    detail = await rental.watch(180.0, look)
    limits = {"start": 15.0, "network": 20.0, "domain": 60.0}
    holds = seen.keys() == limits.keys() and all(seen[name] <= limit for name, limit in limits.items())
    notes.judge("delays", holds, {"start": 4.0, "network": 6.0, "domain": 21.0}, seen)
    if late_domain:
        notes.compare("connection-later", "later", "later")
    else:
        notes.undecided("connection-later", "the first look after ACTIVE came too late")
    if detail.get("network"):
        compare_ports(rental.bench, detail, detail["network"])
    bill = detail.get("billing") or {}
    compare_amounts(rental.bench, [bill])
    compare_periods(rental.bench, [("ACTIVE", bill)])
    hourly = float(bill.get("hourly_usage") or 0)
    hours = round(float(bill.get("total_spendings") or 0) / hourly, 2) if hourly else 0
    reserve = round(float(bill.get("reserved_amount") or 0) / hourly, 1) if hourly else 0
    # A clock hour may have begun meanwhile. The reserve is then one hour until the top-up (contract 7).
    holds = hours in (1.0, 2.0) and (reserve == 2.0 or (reserve == 1.0 and hours > 1))
    notes.judge("clock-hours", holds, {"spent": 1.0, "reserved": 2.0}, {"spent": hours, "reserved": reserve})


async def _logs(rental: Rental) -> None:
    """Read the log of the first program: its beginning, window, order, last line and bad bytes."""
    notes, deploy = rental.bench.notes, rental.deploy
    whole: list[str] = []
    for _ in range(20):
        whole = await deploy.lines()
        if len(whole) > 2:
            break
        await asyncio.sleep(EVERY)
    texts = [text_of(line) for line in whole]
    rental.pods |= {pod_of(line) for line in whole}
    compare_lines(rental.bench, whole[:50])
    if not whole:
        return
    if any("seq 1 " in text for text in texts):
        notes.compare("shell", "a shell", "no shell")
        return
    if "conformance-begin" not in texts[:3] and texts[-1:] != ["unfinished"]:
        return  # the program does not run, as in a simulator that runs no commands
    notes.compare("shell", "a shell", "a shell" if "1" in texts or str(LINES) in texts else "no shell")
    notes.compare("unfinished-line", "shown", "shown" if texts[-1] == "unfinished" else "not shown")
    newest = await deploy.lines(5)
    order = [text_of(line) for line in newest] == texts[-5:] and len(newest) == 5
    notes.compare("log-lines", "the newest", "the newest" if order else "others")
    many = len(await deploy.lines(LINES - 500))
    notes.compare("last-max", {"lines": "all"}, {"lines": "all" if many == LINES - 500 else many})
    if many < LINES - 500:
        notes.undecided("kept-lines", "an answer has too few lines")
    else:
        kept = "all" if texts[0] == "conformance-begin" else len(texts)
        notes.compare("kept-lines", {"kept": "all"}, {"kept": kept})
    answers = [len(await deploy.lines(50)) for _ in range(6)]
    notes.compare("empty-answers", "never", "never" if all(answers) else "at times")
    rental.bench.asker.account |= rental.pods


async def _end(rental: Rental) -> None:
    """End the container with a DELETE, and compare its last bill and logs."""
    notes, deploy = rental.bench.notes, rental.deploy
    before = await deploy.detail()
    reply = await rental.bench.asker.change("DELETE", deploy.path)
    if reply is None:
        return
    notes.compare("terminate", {"active": 204}, {"active": reply.status})
    detail = await deploy.detail()
    if reply.status != 204 or not detail:
        return
    bill, last = detail.get("billing") or {}, before.get("billing") or {}
    at_once = status_of(detail) == "ENDED" and not bill.get("reserved_amount")
    observed = {"status": status_of(detail), "reserve": "refunded" if at_once else "kept"}
    notes.compare("terminate-at-once", {"status": "ENDED", "reserve": "refunded"}, observed)
    same = bill.get("total_spendings") == last.get("total_spendings")
    notes.compare("paid-hour", "spent", "spent" if same else "other")
    notes.compare("usage-after-end", "zero", "zero" if not bill.get("hourly_usage") else "price")
    over = {"network": "null", "ssh_connection": "null", "container_status": "NOT_STARTED"}
    network = "null" if detail.get("network") is None else "kept"
    notes.compare(
        "after-the-end",
        over,
        over | {"network": network, "container_status": str(detail.get("container_status"))},
    )
    try:
        logs = await deploy.logs()
    except NO_RESULT:
        return
    answer = "error" if logs.status != 200 else "kept" if await deploy.lines() else "empty"
    notes.compare("logs-gone", "empty", answer)


PAID_PROBES: Final[tuple[Probe, ...]] = (container,)
