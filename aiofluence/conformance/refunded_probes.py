"""Probes that deploy what the service should refuse, or fail to provision and refund in full.

The failing deploy has the variable `SSH_PUBKEY` beside an SSH key, which the service's page says will fail.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from ..errors import InstanceFailedError, RefusedError, UnsupportedImageError
from ..models.specs import VMSpec, unique_name
from ..models.values import Kind
from .account import status_of
from .asking import NO_RESULT, UnfitError, body_of, detail_of
from .deploying import PROVISIONING, Deploy, Unchecked, balance, deployed
from .output_probes import compare_events, seconds_between
from .probe import Bench, Level, Probe, probe
from .reading_probes import compare_periods

SSH_KEY: Final = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm conformance"
)
IMAGE: Final = "docker.io/fluencelabs/debian-ssh-root:11"
_EVERY: Final = 3.0
"""Seconds between two looks at a deploy."""


class Early:
    """Observations of a container from its POST until it is ACTIVE or over, as several claims need them."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.updated: set[str] = set()
        self.first: dict[str, Any] = {}
        self.logs: set[str] = set()

    async def __call__(self, deploy: Deploy) -> None:
        """Look until the status is no longer INITIALIZED."""
        await self._list_lag(deploy)
        is_first = True
        while deploy.age < 2 * PROVISIONING:
            detail = await deploy.detail()
            status = status_of(detail)
            if detail:
                self.updated.add(str(detail.get("updated_at")))
            if status in ("ACTIVE", "FAILED", "ENDED"):
                return
            if detail and status != "INITIALIZED":
                known = re.fullmatch(r"[A-Za-z_]{1,32}", status)
                self._bench.notes.compare("other-statuses", {}, {"status": status if known else "a text"})
            if detail:
                reply = await deploy.logs()
                lines = body_of(reply)
                events = await deploy.events()
                if is_first:
                    self._first_look(deploy, detail, lines if reply.status == 200 else "error", events)
                    is_first = False
                self.logs.add("error" if reply.status != 200 else "lines" if lines else "empty")
            await asyncio.sleep(_EVERY)

    async def _list_lag(self, deploy: Deploy) -> None:
        for _ in range(40):
            seconds = round(deploy.age, 1)
            try:
                rows = await self._bench.asker.fetch("/gpu/instances/")
            except NO_RESULT:
                rows = []
            if any(isinstance(row, dict) and row.get("id") == deploy.id for row in rows):
                holds = seconds <= _AT_ONCE
                observed = {"seconds": 0.0 if holds else seconds}
                self._bench.notes.judge("list-lag", holds, {"seconds": 0.0}, observed)
                return
            await asyncio.sleep(_EVERY)

    def _first_look(self, deploy: Deploy, detail: dict[str, Any], lines: Any, events: list[str]) -> None:
        self.first = detail
        notes = self._bench.notes
        notes.compare("deploy-status", {"status": 201}, {"status": deploy.status})
        notes.compare(
            "before-scheduling",
            {"logs": "empty", "events": "empty"},
            {
                "logs": lines if lines == "error" else "lines" if lines else "empty",
                "events": "events" if events else "empty",
            },
        )
        apart = seconds_between(
            detail.get("created_at"), None if deploy.date is None else deploy.date.isoformat()
        )
        if apart is not None:
            holds = abs(apart) <= _ONE_CLOCK
            observed = {"apart": 0 if holds else round(apart)}
            notes.judge("date", holds, {"apart": 0}, observed)
        offer = self._bench.offer
        if offer is not None:
            within = detail.get("location") in offer.locations
            notes.compare("any-place", "one of the plan's", "one of the plan's" if within else "another")
        bill = detail.get("billing") or {}
        paid = bill.get("total_spendings") == bill.get("hourly_usage") != 0
        notes.compare(
            "initialized-rent",
            "one hour",
            "one hour" if paid else "nothing" if not bill.get("total_spendings") else "other",
        )
        if offer is not None:
            _half_cents(self._bench, bill)


_AT_ONCE: Final = 3.0
_ONE_CLOCK: Final = 5.0


def _half_cents(bench: Bench, bill: dict[str, Any]) -> None:
    """Compare the rounding of amounts, if an amount of this plan ends in half a cent."""
    assert bench.offer is not None
    for name, hours in (("hourly_usage", 1), ("reserved_amount", 2), ("total_spendings", 1)):
        exact = bench.offer.hourly * hours * 100
        if exact % 1 == exact.__class__("0.5") and bill.get(name) is not None:
            up = round(float(bill[name]) * 100) == int(exact) + 1
            bench.notes.compare("half-cents", "up", "up" if up else "down")
            return
    bench.notes.undecided("half-cents", "no amount of the cheapest plan ends in half a cent")


@probe(
    Level.REFUNDED,
    "reserved-variable",
    "failure-refund",
    "deploy-status",
    "date",
    "list-lag",
    "any-place",
    "initialized-rent",
    "half-cents",
    "before-scheduling",
    "logs-creating",
    "failed-events",
    "events-stay",
    "event-form",
    "event-order",
    "folded",
    "no-exit-codes",
    "updated-at",
    "terminate",
    "update-when",
    "400-texts",
    "secrets-shown",
    "usage-after-end",
    "next-period",
    "history",
    "detail-domain",
    "after-the-end",
    requests=140,
)
async def failing_deploy(bench: Bench) -> None:
    """Deploy a container that fails to be provisioned, watch it, and verify the refund."""
    offer = bench.offer
    if offer is None:
        raise UnfitError("no container plan is for sale")
    spec = Unchecked(
        name=unique_name("conformance"),
        plan_id=offer.plan_id,
        image=IMAGE,
        expose=[22],
        environment={"SSH_PUBKEY": SSH_KEY},
        ssh_key=SSH_KEY,
    )
    before = await balance(bench.asker)
    early = Early(bench)
    ref = None
    try:
        async with deployed(bench, spec, early) as (deploy, _):
            outcome = "runs"
    except InstanceFailedError as error:
        outcome, ref = "fails", error.ref
    except RefusedError:
        outcome = "refused"
    bench.notes.compare("reserved-variable", "fails", outcome)
    if ref is None:
        return
    deploy = Deploy(bench.asker, Kind.CONTAINER, ref.id)
    await _after_failure(bench, deploy, early)
    await _refund(bench, deploy, before)


async def _after_failure(bench: Bench, deploy: Deploy, early: Early) -> None:
    notes = bench.notes
    detail = await deploy.detail()
    if early.logs:
        notes.compare("logs-creating", "error", "error" if "error" in early.logs else "empty")
    if early.first:
        changed = str(detail.get("updated_at")) not in {str(early.first.get("updated_at"))}
        notes.compare("updated-at", "changes", "changes" if changed else "stays")
    events = await deploy.events()
    notes.compare("events-stay", "kept", "kept" if events else "gone")
    if events:
        warns = any("[Warning]" in event for event in events)
        notes.compare("failed-events", "a warning", "a warning" if warns else "no warning")
        compare_events(bench, events)
    await compare_refusals(bench, deploy, early.first)
    names = [each.get("name") for each in (detail.get("container_info") or {}).get("environment") or ()]
    shown = "credentials" in str(detail)
    expected = {"credentials": "hidden", "ssh_key": "SSH_PUBKEY"}
    observed = {
        "credentials": "shown" if shown else "hidden",
        "ssh_key": "SSH_PUBKEY" if "SSH_PUBKEY" in names else "hidden",
    }
    notes.compare("secrets-shown", expected, observed)
    bill = detail.get("billing") or {}
    notes.compare("usage-after-end", "zero", "zero" if not bill.get("hourly_usage") else "price")
    compare_periods(
        bench, [(status_of(each), each.get("billing") or {}) for each in (early.first, detail) if each]
    )
    notes.compare("detail-domain", False, "domain" in detail)
    over = {"network": "null", "ssh_connection": "null", "container_status": "NOT_STARTED"}
    kept = over | {"network": "null" if detail.get("network") is None else "kept"}
    notes.compare("after-the-end", over, kept | {"container_status": str(detail.get("container_status"))})
    rows = await bench.asker.fetch("/gpu/instances/")
    notes.compare("history", "kept", "kept" if any(row.get("id") == deploy.id for row in rows) else "gone")


async def compare_refusals(bench: Bench, deploy: Deploy, detail: dict[str, Any]) -> None:
    """Send a DELETE and an update of a container that is over. Both are refused."""
    info = detail.get("container_info") or {}
    ended = await bench.asker.ask("DELETE", deploy.path)
    body = {
        "name": detail.get("name") or "conformance",
        "container_settings": {"image": info.get("image") or IMAGE},
    }
    changed = await bench.asker.ask("PUT", deploy.path, body=body)
    bench.notes.compare("terminate", {"over": 400}, {"over": ended.status})
    bench.notes.compare("update-when", {"over": 400}, {"over": changed.status})
    bench.notes.compare(
        "400-texts",
        {
            "delete": "Only ACTIVE instances can be terminated",
            "update": "Only ACTIVE instances can be updated",
        },
        {"delete": detail_of(ended), "update": detail_of(changed)},
    )


async def _refund(bench: Bench, deploy: Deploy, before: Any) -> None:
    """Compare the balance before and after. Other instances of the account may change it."""
    bill = (await deploy.detail()).get("billing") or {}
    spent = "nothing" if not bill.get("total_spendings") and not bill.get("reserved_amount") else "something"
    rents = any(status_of(row) in ("INITIALIZED", "ACTIVE") for _, row in bench.account.all_rows())
    observed = {"detail": spent}
    expected = {"detail": "nothing"}
    if before is not None and not rents:
        after = None
        for _ in range(20):
            after = await balance(bench.asker)
            if after is not None and after >= before:
                break
            await asyncio.sleep(_EVERY)
        expected["balance"], observed["balance"] = "as before", "as before" if after == before else "lower"
    bench.notes.compare("failure-refund", expected, observed)


@probe(Level.REFUNDED, "os-image", requests=3)
async def os_image(bench: Bench) -> None:
    """Deploy a VM with an operating system that its option does not offer, which the service refuses."""
    offer = bench.vm
    if offer is None:
        bench.notes.undecided("os-image", "no VM is for sale")
        return
    spec = VMSpec(
        name=unique_name("conformance"), plan_id=offer.plan_id, ssh_key=SSH_KEY, os_image="No Such System"
    )

    async def nothing(deploy: Deploy) -> None: ...

    expected = "Provided OS image … is not supported for the selected offer. Available OS images: …"
    try:
        async with deployed(bench, spec, nothing):
            observed = "accepted"
    except UnsupportedImageError as error:
        options = ", ".join(offer.os_options)
        observed = str(error.detail).replace("No Such System", "…").replace(options, "…")
    except RefusedError as error:
        observed = re.sub(r"\S*\d\S*", "…", str(error.detail))
    bench.notes.compare("os-image", expected, observed)


REFUNDED_PROBES: Final[tuple[Probe, ...]] = (os_image, failing_deploy)
