"""Seeded faults for random lives: the list of kinds, and the episodes of each kind.

A life draws some kinds, and each kind draws its episodes. Delays stay within the limits of `DeployPolicy`:
commit, lag and stale replicas together take less than `settle`, and a late commit less than `settle + watch`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeAlias

import attrs

from .second_service import Cloud, Episode

SPAN: Final = 2000.0
"""Seconds within which most faults begin."""

ANY: Final = frozenset({"deploy", "list", "get", "put", "delete", "other"})
READS: Final = frozenset({"list", "get"})
WRITES: Final = frozenset({"deploy", "put", "delete"})
FORMS: Final = ("hang", "reset", "cut", "500", "502", "503", "504")
LIES: Final = (429, 503, 408, 425, 520, 521, 522, 523, 524, 525, 530)


@attrs.define
class Weather:
    """The faults of one life, filled by the kinds.

    Attributes:
        settle: `DeployPolicy.settle` of all sessions of the life.
        watch: `DeployPolicy.watch` of all sessions of the life.
        delay_left: seconds that commit, lag and stale replicas may still take together.
        suspends: (loop time, seconds) of each suspension of the machine.
        foreign: share of the names that another user of the account has used earlier.
        old: number of ended rows of the account.
    """

    rng: Random
    settle: float
    watch: float
    delay_left: float
    episodes: list[Episode] = attrs.field(factory=list)
    lag: float = 0.0
    provision: tuple[float, float] = (30.0, 240.0)
    fails: float = 0.0
    minimum: float = 0.0
    minimum_of: tuple[str, ...] = ("container", "vm", "baremetal")
    only_active: bool = True
    suspends: list[tuple[float, float]] = attrs.field(factory=list)
    foreign: float = 0.0
    old: int = 0

    def add(
        self,
        fault: str,
        on: frozenset[str],
        how: Mapping[str, Any],
        *,
        times: float = float("inf"),
        length: tuple[float, float] | None = None,
        share: float | None = None,
        start: float | None = None,
    ) -> None:
        """Add one episode. Without `length` it lasts for ever."""
        rng = self.rng
        begins = rng.choice((0.0, rng.uniform(0, SPAN))) if start is None else start
        ends = float("inf") if length is None else begins + rng.uniform(*length)
        self.episodes.append(Episode(fault, begins, ends, 1.0 if share is None else share, on, how, times))

    def take_delay(self, share: float) -> float:
        """Draw seconds of delay from `delay_left`, and subtract them."""
        seconds = self.rng.uniform(0, self.delay_left * share)
        self.delay_left -= seconds
        return seconds


def _skew(sky: Weather) -> None:
    rng = sky.rng
    kind = rng.choice(("fast", "slow", "none", "flips", "jump", "gaps"))
    on = frozenset({"date"})
    seconds = rng.choice((90.0, 120.0, 300.0)) * rng.choice((1, -1))
    if kind in ("fast", "slow"):
        sky.add("skew", on, {"skew": abs(seconds) * (1 if kind == "fast" else -1)}, start=0.0)
    elif kind == "none":
        sky.add("skew", on, {"skew": None}, start=0.0)
    elif kind == "flips":
        sky.add("skew", on, {"skew": seconds}, share=0.5, start=0.0)
    elif kind == "jump":
        sky.add("skew", on, {"skew": seconds}, length=(60, 900))
    else:
        sky.add("skew", on, {"skew": None}, share=0.7, start=0.0)


def _suspend(sky: Weather) -> None:
    for _ in range(sky.rng.randint(1, 2)):
        when = sky.rng.choice((sky.rng.uniform(0, 20), sky.rng.uniform(0, 900)))
        sky.suspends.append((when, sky.rng.choice((60.0, 400.0, 3600.0, 8 * 3600.0))))


def _lost(sky: Weather) -> None:
    rng = sky.rng
    for _ in range(rng.randint(1, 4)):
        on = rng.choice(
            (frozenset({"deploy"}), frozenset({"delete"}), frozenset({"put"}), READS, WRITES, ANY)
        )
        how = {"act": "lose", "form": rng.choice(FORMS), "commit": rng.choice((True, False, 0.5))}
        if rng.random() < 0.6:
            sky.add("lost", on, how, times=rng.randint(1, 3))
        else:
            sky.add("lost", on, how, share=rng.uniform(0.1, 0.6), length=(20, 400))


def _late(sky: Weather) -> None:
    rng = sky.rng
    late = sky.take_delay(0.9) if rng.random() < 0.6 else sky.settle + rng.uniform(0, sky.watch * 0.5)
    how = {"act": "lose", "form": rng.choice(FORMS), "commit": True, "late": late}
    sky.add("late", frozenset({"deploy"}), how, times=rng.randint(1, 2))


def _lag(sky: Weather) -> None:
    sky.lag = sky.take_delay(0.6)


def _stale(sky: Weather) -> None:
    how = {"act": "stale", "by": sky.take_delay(0.6)}
    sky.add("stale", sky.rng.choice((READS, frozenset({"list"}), frozenset({"get"}))), how, share=0.5)


def _lying(sky: Weather) -> None:
    rng = sky.rng
    for _ in range(rng.randint(1, 3)):
        plain = rng.random() < 0.5
        body = b'{"detail": "Too many requests"}' if plain else b"<html><title>Busy</title></html>"
        headers = {"Content-Type": "application/json" if plain else "text/html"}
        if rng.random() < 0.4:
            headers["Retry-After"] = rng.choice(("1", "7", "30", "-5", "soon", "+1"))
        how = {"act": "page", "status": rng.choice(LIES), "body": body, "headers": headers, "commit": 0.5}
        on = rng.choice((frozenset({"deploy"}), frozenset({"deploy"}), frozenset({"delete"}), WRITES))
        sky.add("lying", on, how, times=rng.randint(1, 5))


PAGES: Final = (
    (404, b"404 page not found", "text/plain"),
    (404, b"<html><title>404 Not Found</title></html>", "text/html"),
    (403, b"<html><title>403 Forbidden</title></html>", "text/html"),
    (401, b"Unauthorized", "text/plain"),
    (200, b"<html><title>Hotel Wifi</title></html>", "text/html"),
    (200, b"", "text/plain"),
    (502, b"<html><title>Bad Gateway</title></html>", "text/html"),
    (503, b"upstream connect error", "text/plain"),
    (400, b"<html><title>400 Bad Request</title></html>", "text/html"),
)


def _gateway(sky: Weather) -> None:
    rng = sky.rng
    for _ in range(rng.randint(1, 2)):
        status, body, kind = rng.choice(PAGES)
        on = rng.choice((frozenset({"get"}), frozenset({"list"}), READS, ANY, frozenset({"delete"}), WRITES))
        commit = rng.choice((False, False, 0.3))
        how = {
            "act": "page",
            "status": status,
            "body": body,
            "headers": {"Content-Type": kind},
            "commit": commit,
        }
        sky.add("gateway", on, how, length=(20, 700), share=rng.choice((1.0, 0.5)))


def _error200(sky: Weather) -> None:
    rng = sky.rng
    bodies: tuple[Any, ...] = (
        {"error": "try again later"},
        {"detail": "Internal trouble"},
        {"error": {"code": 5}},
        [],
    )
    how = {
        "act": "page",
        "status": 200,
        "body": json.dumps(rng.choice(bodies)).encode(),
        "headers": {"Content-Type": "application/json"},
        "commit": rng.choice((False, True, 0.5)),
    }
    on = rng.choice((frozenset({"delete"}), frozenset({"deploy"}), WRITES))
    sky.add("error200", on, how, times=rng.randint(1, 4))


ODD_IDS: Final[Sequence[Callable[[str], Any]]] = (
    lambda id: {},
    lambda id: {"instance_id": None},
    lambda id: {"instance_id": 7},
    lambda id: {"instance_id": ""},
    lambda id: {"instance_id": f"eu.{id}"},
    lambda id: {"instance_id": f"{id}\n"},
    lambda id: {"instance_id": f"{id}/../x"},
    lambda id: {"instanceId": id},
    lambda id: {"data": {"instance_id": id}},
    lambda id: [],
    lambda id: None,
    lambda id: "ok",
)


def _oddid(sky: Weather) -> None:
    how = {"act": "odd id", "body": sky.rng.choice(ODD_IDS)}
    sky.add("oddid", frozenset({"deploy"}), how, times=sky.rng.randint(1, 3))


def _unknown(sky: Weather) -> None:
    rng = sky.rng
    between = rng.choice(("STARTING", "PROVISIONING", "Initiated", "PENDING_PAYMENT"))
    kind = rng.choice(("way", "final", "stuck", "both"))
    how: dict[str, Any] = {}
    if kind in ("way", "both", "stuck"):
        how["between"] = between
    if kind in ("final", "both"):
        how["final"] = rng.choice(("TERMINATED", "DELETED", "EXPIRED"))
    if kind == "stuck":
        how["stuck"] = True
        sky.only_active = rng.random() < 0.3
    sky.add("unknown", frozenset({"row"}), how, share=rng.choice((1.0, 0.6)), start=0.0)


def _disorder(sky: Weather) -> None:
    how = {"act": "rows", "order": sky.rng.choice(("random", "newest"))}
    sky.add("disorder", frozenset({"list"}), how, share=sky.rng.choice((1.0, 0.5)))


def _paged(sky: Weather) -> None:
    size = sky.rng.randint(3, 12)
    sky.old = max(sky.old, size + sky.rng.randint(0, 6))
    length = sky.rng.choice((None, (60.0, 900.0)))
    order = sky.rng.choice(("oldest", "newest", "random"))
    sky.add("paged", frozenset({"list"}), {"act": "rows", "page": size, "order": order}, length=length)


def _capped(sky: Weather) -> None:
    sky.old = max(sky.old, 30)
    sky.add("capped", frozenset({"list"}), {"act": "rows", "order": "newest", "cap": 20})


def _thin(sky: Weather) -> None:
    how = {"act": "rows", "thin": True}
    sky.add("thin", frozenset({"list"}), how, share=sky.rng.choice((1.0, 0.5)), length=(60, 900))


def _without(*fields: str) -> Callable[[dict[str, Any]], Any]:
    return lambda row: {key: value for key, value in row.items() if key not in fields}


def _with(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row | fields


BREAKS: Final[Sequence[Callable[[dict[str, Any]], Any]]] = (
    lambda row: None,
    lambda row: 5,
    lambda row: "row",
    lambda row: {},
    lambda row: [row],
    _without("id"),
    _with(id=5),
    _with(name=None),
    _with(created_at="yesterday"),
    _with(created_at=None),
    _with(resources=None),
    _with(instance_status=None, status=None),
    _with(instance_status=7, status=7),
    _with(location=3),
)


def _badrows(sky: Weather) -> None:
    rng = sky.rng
    if rng.random() < 0.5:
        how: dict[str, Any] = {"act": "rows", "break": rng.uniform(0.1, 0.6), "with": rng.choice(BREAKS)}
        sky.add("badrows", frozenset({"list"}), how, share=rng.uniform(0.2, 0.7))
    else:
        added: Any = rng.choice((None, 7, "x", {}, {"id": None}, {"id": "z", "name": "other"}))
        sky.add("badrows", frozenset({"list"}), {"act": "rows", "add": added or 0}, share=0.8)


def _nulls(sky: Weather) -> None:
    rng = sky.rng
    odd = rng.choice(
        (
            {"location": None},
            {"updated_at": None, "extra": {"deep": [1]}},
            {"network": None},
            {"created_at": None},
            {"created_at": "2026-03-01T10:00:00"},
            {"created_at": "soon"},
            {"resources": None},
            {"billing": None},
            {"billing": {"hourly_usage": "much"}},
            {"container_info": None, "network": {"domain": None, "forwarded_ports": None}},
        )
    )
    sky.add("nulls", frozenset({"row"}), {"odd": odd}, share=rng.choice((1.0, 0.5)), start=0.0)
    if rng.random() < 0.5:
        sky.add("nulls", frozenset({"list"}), {"act": "rows", "null": True}, share=0.5)


def _minimum(sky: Weather) -> None:
    sky.minimum = sky.rng.choice((60.0, 300.0, 1200.0, 1200.0))
    if sky.rng.random() < 0.6:  # as the provider of VMs and bare metal requires
        sky.minimum_of = ("vm", "baremetal")


def _noop(sky: Weather) -> None:
    rng = sky.rng
    if rng.random() < 0.5:
        sky.add("noop", frozenset({"delete"}), {"act": "noop"}, times=rng.randint(1, 4))
    else:
        sky.add("noop", frozenset({"delete"}), {"act": "slow end", "late": rng.uniform(5, 200)})


def _slow(sky: Weather) -> None:
    sky.provision = sky.rng.choice(((10.0, 720.0), (500.0, 720.0), (10.0, 30.0)))


def _failed(sky: Weather) -> None:
    sky.fails = sky.rng.choice((0.2, 0.5))


def _stray(sky: Weather) -> None:
    rng = sky.rng
    for _ in range(rng.randint(1, 3)):
        how = {
            "act": "page",
            "status": rng.choice((401, 403)),
            "body": b'{"error": "forbidden", "code": "forbidden"}',
            "headers": {"Content-Type": "application/json"},
        }
        # One strike per episode: several in a row would mean that the key is bad.
        on = rng.choice((ANY, frozenset({"delete"}), READS))
        sky.add("stray", on, how, times=1, start=rng.uniform(0, 900))


def _throttle(sky: Weather) -> None:
    rng = sky.rng
    headers = {"Content-Type": "application/json", "Retry-After": str(rng.randint(1, 30))}
    how = {
        "act": "page",
        "status": rng.choice((429, 503)),
        "body": b'{"detail": "slow down"}',
        "headers": headers,
    }
    sky.add("throttle", ANY, how, share=rng.uniform(0.1, 0.5), length=(20, 200))


def _strange(sky: Weather) -> None:
    rng = sky.rng
    how = {"act": "lose", "form": "strange", "commit": rng.choice((True, False))}
    sky.add(
        "strange",
        rng.choice((frozenset({"deploy"}), frozenset({"delete"}), ANY)),
        how,
        times=rng.randint(1, 2),
    )


def _down(sky: Weather) -> None:
    how = {"act": "lose", "form": "unreachable"}
    sky.add("down", ANY, how, length=(30, 600))


def _crashes(sky: Weather) -> None:
    sky.add("crashes", frozenset({"row"}), {"crashes": True}, share=sky.rng.choice((1.0, 0.5)), start=0.0)


def _nologs(sky: Weather) -> None:
    sky.add("nologs", frozenset({"row"}), {"logs": sky.rng.choice((404, 400, 500))}, start=0.0)


def _foreign(sky: Weather) -> None:
    sky.foreign = 0.5
    sky.old = max(sky.old, sky.rng.randint(0, 5))


Draw: TypeAlias = Callable[[Weather], None]
FAULTS: Final[Mapping[str, Draw]] = {
    "skew": _skew,
    "suspend": _suspend,
    "lost": _lost,
    "late": _late,
    "lag": _lag,
    "stale": _stale,
    "lying": _lying,
    "gateway": _gateway,
    "error200": _error200,
    "oddid": _oddid,
    "unknown": _unknown,
    "disorder": _disorder,
    "paged": _paged,
    "capped": _capped,
    "thin": _thin,
    "badrows": _badrows,
    "nulls": _nulls,
    "minimum": _minimum,
    "noop": _noop,
    "slow": _slow,
    "failed": _failed,
    "stray": _stray,
    "throttle": _throttle,
    "strange": _strange,
    "down": _down,
    "foreign": _foreign,
    "crashes": _crashes,
    "nologs": _nologs,
}
"""Functions that draw episodes, by the name of the kind."""


def draw(rng: Random, kinds: Sequence[str], settle: float, watch: float) -> Weather:
    """Draw the weather of one life that has these kinds of faults."""
    sky = Weather(rng, settle, watch, delay_left=settle * 0.8)
    for kind in kinds:
        FAULTS[kind](sky)
    rng.shuffle(sky.episodes)
    return sky


def make_cloud(sky: Weather) -> Cloud:
    """Return the service with the faults of that weather."""
    low, high = sky.provision
    return Cloud(
        sky.rng,
        sky.episodes,
        lag=sky.lag,
        provision=lambda: sky.rng.uniform(low, high),
        fails=sky.fails,
        minimum=sky.minimum,
        minimum_of=sky.minimum_of,
        only_active=sky.only_active,
    )
