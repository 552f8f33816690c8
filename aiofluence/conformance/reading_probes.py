"""Probes that read what the account and the catalogue have. They send nearly nothing.

A claim about instances stays undecided if the account never had such an instance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from ..models.values import Kind
from ..resources.shapes import SHAPES, Difference, differences
from .account import status_of
from .probe import NOT_SHOWN, Bench, Level, Probe, first, probe

_BY_PLACE: Final = (
    (re.compile(r"GET /gpu/plans/\S+ .*minimum_price"), "minimum-price"),
    (re.compile(r"GET /gpu/plans/"), "plan-groups"),
    (re.compile(r"GET /v2/users/balances"), "balances"),
    (re.compile(r"GET /v1/users/me"), "me"),
    (re.compile(r".*(instance_)?status \S*$"), "other-statuses"),
)
"""Claims that own a difference between a document and its shape. All others belong to `fields`."""


@probe(Level.FREE, "fields", "minimum-price", "plan-groups", "balances", "me", "other-statuses")
async def shapes(bench: Bench) -> None:
    """Compare the fields, types and enum values of every document."""
    found: dict[str, dict[str, str]] = {}
    seen = set()
    for operation, document in bench.account.documents:
        seen.add(operation)
        shape = SHAPES[operation]
        for difference in differences(shape, document):
            claim = _owner(operation, difference)
            place = f"{operation} {difference.path}"
            found.setdefault(claim, {})[place] = f"{difference.problem} {difference.observed}".strip()
    for claim, operations in _OPERATIONS.items():
        if not operations & seen:
            bench.notes.undecided(claim, "the documents could not be fetched")
            continue
        if claim == "other-statuses" and not any(True for _ in bench.account.all_rows()):
            bench.notes.undecided(claim, NOT_SHOWN)
            continue
        bench.notes.compare(claim, {}, found.get(claim, {}))
    _optional_fields(bench, "me", "GET /v1/users/me", ("id", "email"))


def _owner(operation: str, difference: Difference) -> str:
    if difference.problem == "value" and re.search(r"\.(instance_)?status$", difference.path):
        return "other-statuses"
    text = f"{operation} {difference.path}"
    return next((claim for pattern, claim in _BY_PLACE[:-1] if pattern.match(text)), "fields")


def _optional_fields(bench: Bench, claim: str, operation: str, names: Iterable[str]) -> None:
    document = first(body for each, body in bench.account.documents if each == operation)
    if isinstance(document, dict):
        missing = {f"{operation} $.{name}": "missing field" for name in names if name not in document}
        if missing:
            bench.notes.compare(claim, {}, missing)


_LISTS: Final = frozenset(name for name in SHAPES if name.startswith("GET /gpu/instances"))
_PLANS: Final = frozenset(name for name in SHAPES if name.startswith("GET /gpu/plans/"))
_OPERATIONS: Final = {
    "fields": _LISTS,
    "minimum-price": _PLANS - {"GET /gpu/plans/"},
    "plan-groups": _PLANS,
    "balances": frozenset({"GET /v2/users/balances"}),
    "me": frozenset({"GET /v1/users/me"}),
    "other-statuses": _LISTS,
}


@probe(Level.FREE, "places", "free-text-places", "published-plans", "balance-fields")
async def catalogue(bench: Bench) -> None:
    """Read the plans, their places and prices, and the balance."""
    notes, plans = bench.notes, bench.account.plans
    containers = [row for row in plans.get(Kind.CONTAINER) or () if isinstance(row, dict)]
    options = list(_options(plans.get(Kind.VM))) + list(_options(plans.get(Kind.BAREMETAL)))
    countries = [place for row in containers for place in (row.get("attributes") or {}).get("location") or ()]
    if countries and options:
        codes = all(re.fullmatch("[A-Z]{2}", str(place)) for place in countries)
        single = all(isinstance(option.get("location"), str) for option in options)
        expected = {"container": "country codes", "machine": "one location"}
        notes.compare(
            "places",
            expected,
            {
                "container": "country codes" if codes else "other texts",
                "machine": "one location" if single else "other",
            },
        )
        texts = any(not re.fullmatch("[A-Z]{2}", str(option.get("location"))) for option in options)
        notes.compare("free-text-places", "free text", "free text" if texts else "country codes")
    known = {"36cdb646-1246-42d8-b2d1-9480ca546536": 2.96, "472ea881-73d9-423a-8e61-19addd34424c": 1.22}
    prices = {
        row["plan"].get("id"): (row["plan"].get("pricing") or {}).get("hour")
        for row in containers
        if isinstance(row.get("plan"), dict)
    }
    if known.keys() <= prices.keys():
        same = all(prices[plan] == price for plan, price in known.items())
        notes.compare("published-plans", "same prices", "same prices" if same else "other prices")
    else:
        notes.undecided("published-plans", "the plans in the guides are not for sale now")
    _balance(bench)


def _balance(bench: Bench) -> None:
    rows = first(body for each, body in bench.account.documents if each == "GET /v2/users/balances")
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else None
    if row is None:
        bench.notes.undecided("balance-fields", "the balance could not be fetched")
        return
    live = sum(status_of(each) in ("INITIALIZED", "ACTIVE") for _, each in bench.account.all_rows())
    expected = {"estimatedUsage": "rent" if live else "zero", "usageDaysLeft": "number" if live else "null"}
    rent = _number(row.get("estimatedUsage"))
    observed = {
        "estimatedUsage": "no number" if rent is None else "rent" if rent else "zero",
        "usageDaysLeft": "null" if row.get("usageDaysLeft") is None else "number",
    }
    bench.notes.compare("balance-fields", expected, observed)


def _number(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value))
    except ArithmeticError:
        return None


def _options(groups: Any) -> Iterator[dict[str, Any]]:
    for group in (groups.get("data") if isinstance(groups, dict) else None) or ():
        for number in group.get("availability_by_number") or ():
            yield from number.get("options") or ()


@probe(
    Level.FREE, "newest-first", "history", "failure-rate", "detail-domain", "failed-detail", "after-the-end"
)
async def instances(bench: Bench) -> None:
    """Read the lists and details of the account's instances."""
    notes, account = bench.notes, bench.account
    orders = {_order(rows) for rows in account.rows.values()} - {None}
    if orders:
        notes.compare("newest-first", "newest", orders.pop() if len(orders) == 1 else "mixed")
    over = {row["id"]: kind for kind, row in account.all_rows() if status_of(row) == "ENDED" and "id" in row}
    shown = {detail.get("id") for detail in account.with_status("ENDED", "FAILED")}
    if over:
        notes.compare("history", "kept", "kept" if shown & over.keys() else "gone")
    rows = [status_of(row) for _, row in account.all_rows()]
    if len(rows) >= _MANY:
        share = round(rows.count("FAILED") / len(rows), 2)
        notes.judge("failure-rate", share <= _FEW, {"at most": _FEW}, {"share": share})
    else:
        notes.undecided("failure-rate", f"the account has had fewer than {_MANY} instances")
    if account.details:
        notes.compare("detail-domain", False, any("domain" in detail for _, detail in account.details))
    _failed_machines(bench)
    ended = list(account.with_status("ENDED"))
    if ended:
        expected = {"network": "null", "ssh_connection": "null", "container_status": "NOT_STARTED"}
        observed = dict(expected)
        for detail in ended:
            for name in ("network", "ssh_connection"):
                if detail.get(name) is not None:
                    observed[name] = "kept"
            if detail.get("container_status", "NOT_STARTED") != "NOT_STARTED":
                observed["container_status"] = "STARTED"
        notes.compare("after-the-end", expected, observed)


_MANY: Final = 20
_FEW: Final = 0.1


def _order(rows: list[Any]) -> str | None:
    """Return the order of a list; None if it is too short to have one."""
    times = [row.get("created_at") for row in rows]
    if any(not isinstance(time, str) for time in times) or len(set(times)) < 2:
        return None
    if all(a >= b for a, b in pairwise(times)):
        return "newest"
    return "oldest" if all(a <= b for a, b in pairwise(times)) else "none"


def _failed_machines(bench: Bench) -> None:
    for kind in (Kind.VM, Kind.BAREMETAL):
        failed = {row["id"] for row in bench.account.rows.get(kind, ()) if status_of(row) == "FAILED"}
        for of, detail in bench.account.details:
            if of is kind and detail.get("id") in failed:
                bench.notes.compare("failed-detail", "FAILED", status_of(detail))
                return


@probe(
    Level.FREE, "machine-ip", "early-ip", "login-users", "container-root", "ports", "rename-when", requests=1
)
async def access(bench: Bench) -> None:
    """Read addresses, log-ins and ports, and rename an instance that is over to its own name."""
    notes, account = bench.notes, bench.account
    machines = [row for kind, row in account.all_rows() if kind is not Kind.CONTAINER]
    active = [row for row in machines if status_of(row) == "ACTIVE"]
    if active:
        numeric = all(re.fullmatch(r"[0-9a-fA-F.:]+", row.get("domain") or "-") for row in active)
        notes.compare("machine-ip", "address", "address" if numeric else "null")
    young = [row for row in machines if status_of(row) == "INITIALIZED"]
    if young and any(row.get("domain") for row in young):
        notes.compare("early-ip", "may be early", "may be early")
    _logins(bench)
    containers = [detail for kind, detail in account.details if kind is Kind.CONTAINER]
    if containers:
        notes.compare(
            "container-root",
            "no user",
            "a user" if any("ssh_connection" in c for c in containers) else "no user",
        )
    networks = [
        (detail, detail["network"]) for detail in containers if isinstance(detail.get("network"), dict)
    ]
    if networks:
        compare_ports(bench, *networks[0])
    over = first(row for row in machines if status_of(row) in ("ENDED", "FAILED"))
    if over is not None:
        kind = first(kind for kind, row in account.all_rows() if row is over)
        folder = "vms" if kind is Kind.VM else "baremetal"
        path = f"/gpu/instances/{folder}/{over['id']}"
        reply = await bench.asker.ask("PUT", path, body={"name": over.get("name")})
        notes.compare("rename-when", {"over": 400}, {"over": reply.status})


def compare_ports(bench: Bench, detail: Any, network: Any) -> None:
    """Compare the ports of a container's network with those that it exposes."""
    exposed = list((detail.get("container_info") or {}).get("expose") or ())
    http = [port["port"] for port in exposed if port.get("protocol") == "http"]
    forwarded = {port.get("port") for port in network.get("forwarded_ports") or ()}
    expected = {"forwarded": "all but http", "uri": "with http and domain"}
    others = {port["port"] for port in exposed} - set(http)
    uri = bool(network.get("uri"))
    bench.notes.compare(
        "ports",
        expected,
        {
            "forwarded": "all but http" if forwarded == others else "others",
            "uri": "with http and domain" if uri == bool(http and network.get("domain")) else "otherwise",
        },
    )


def _logins(bench: Bench) -> None:
    """Compare the log-in users of machines with their providers, as far as plans name the provider."""
    users = {}
    for kind, detail in bench.account.details:
        login = detail.get("ssh_connection")
        if kind is Kind.CONTAINER or not isinstance(login, str):
            continue
        found = re.match(r"ssh (?:-\S+ )*([a-z_][a-z0-9_-]*)@", login)
        system = str(detail.get("os_image", "")).lower()
        if found is not None:
            users[found[1]] = next((name for name in ("ubuntu", "debian", "rocky") if name in system), "root")
    if users:
        known = set(users) <= {"ubuntu", "user"}
        by_os = all(user == by for user, by in users.items())
        notes = bench.notes
        if known and not by_os:
            notes.compare("login-users", "provider", "provider")
        elif not known:
            notes.compare("login-users", "provider", "os" if by_os else "other")
        else:
            notes.undecided("login-users", "the machines' systems and providers suggest the same user")


@probe(Level.FREE, "cents", "next-period", "usage-after-end", "one-hour-reserve", "half-cents")
async def bills(bench: Bench) -> None:
    """Read the amounts of the account's instances."""
    notes = bench.notes
    bills = [
        (status_of(d), d["billing"]) for _, d in bench.account.details if isinstance(d.get("billing"), dict)
    ]
    if not bills:
        return
    compare_amounts(bench, [bill for _, bill in bills])
    compare_periods(bench, bills)
    over = [bill for status, bill in bills if status == "ENDED"]
    if over:
        zero = all(not bill.get("hourly_usage") for bill in over)
        notes.compare("usage-after-end", "zero", "zero" if zero else "price")


def compare_amounts(bench: Bench, bills: Iterable[Any]) -> None:
    """Compare the decimals of amounts. Coarse prices leave the claim undecided."""
    names = ("hourly_usage", "total_spendings", "reserved_amount")
    amounts = [_number(bill.get(name)) for bill in bills for name in names if bill.get(name)]
    finest = max((-int(a.as_tuple().exponent) for a in amounts if a is not None), default=0)
    if finest > 2:
        bench.notes.compare("cents", "cents", "finer")
    elif amounts:
        bench.notes.compare("cents", "cents", "cents")


def compare_periods(bench: Bench, bills: Iterable[tuple[str, Any]]) -> None:
    """Compare `next_billing_period` with the status."""
    observed = "active"
    for status, bill in bills:
        period = bill.get("next_billing_period")
        if status == "ACTIVE" and (period is None or "." in str(period)):
            observed = "live" if period is not None else "never"
        elif status != "ACTIVE" and period is not None:
            observed = "live"
    bench.notes.compare("next-period", "active", observed)


READING_PROBES: Final[tuple[Probe, ...]] = (shapes, catalogue, instances, access, bills)
