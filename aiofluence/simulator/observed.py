"""The options of a simulator that behaves as a file of observations says.

Reads the JSON that `aiofluence conformance` writes, with no code of the client. A contradicted claim that no
option expresses is left out, and named.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from .endpoints import ServerRateLimit
from .profile import Profile

FORMAT: Final = "aiofluence observations 1"
Json: TypeAlias = Any
Changes: TypeAlias = dict[str, Any]


@attrs.frozen
class Observed:
    """Options from a file of observations.

    Attributes:
        profile: changed fields of a profile.
        list_lag: seconds for which a new instance is missing from lists.
        rate_limit: the service's rate limit. None if the burst met none.
        left_out: claims that were contradicted, and that no option expresses.
    """

    profile: Changes
    list_lag: float = 0.0
    rate_limit: ServerRateLimit | None = None
    left_out: tuple[str, ...] = ()


def read_observations(path: str | os.PathLike[str]) -> Observed:
    """Read a file of observations.

    Raises:
        ValueError: the file is no file of observations.
        OSError: the file cannot be read.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"{path} has the format {document['format']!r}, not {FORMAT!r}")
        contradicted = {
            finding["claim"]: finding["observed"]
            for finding in document["findings"]
            if finding["verdict"] == "contradicted"
        }
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{path} is not a file of observations") from None
    changes: Changes = {}
    left = []
    for claim, observed in contradicted.items():
        try:
            change = _CHANGES[claim](observed)
            Profile().replace(**{key: value for key, value in change.items() if key not in _NO_PROFILE})
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            change = {}
        if not change:
            left.append(claim)
        _merge(changes, change)
    lag, limit = changes.pop("list_lag", 0.0), changes.pop("rate_limit", None)
    return Observed(changes, lag, limit, tuple(left))


_NO_PROFILE: Final = frozenset({"list_lag", "rate_limit"})


def _merge(into: Changes, changes: Changes) -> None:
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _answers(**options: Any) -> Changes:
    return {"answers": {name: value for name, value in options.items() if value is not None}}


def _key(observed: Json) -> Changes:
    form = "detail" if observed["fields"] == ["detail"] else "error"
    return {"unauthorised_status": observed["status"], **_answers(key_refusal=form)}


def _not_found(observed: Json) -> Changes:
    statuses, texts = {}, {}
    for name, ours in (("path", "Not Found"), ("method", "Method Not Allowed")):
        statuses[ours], texts[ours] = observed[name][0], observed[name][1]
    return _answers(statuses=statuses, texts={ours: text for ours, text in texts.items() if text})


def _unknown_id(observed: Json) -> Changes:
    return _answers(
        statuses={"Instance not found": observed["status"]}, texts={"Instance not found": observed["text"]}
    )


def _texts(observed: Json) -> Changes:
    ours = {
        "plan": "Plan is no longer available",
        "delete": "Only ACTIVE instances can be terminated",
        "update": "Only ACTIVE instances can be updated",
        "second": "Instance update is already in progress",
    }
    return _answers(texts={ours[name]: text for name, text in observed.items() if text != ours[name]})


def _unchecked(observed: Json) -> Changes:
    return _answers(unchecked=dict.fromkeys(observed["accepted"], True))


def _edits(observed: Json) -> Changes:
    return _answers(edits=observed)


def _pace(observed: Json) -> Changes:
    if not observed["refused"]:
        return {}
    limit = ServerRateLimit(
        per_second=1.0,
        burst=max(1, observed["after"]),
        retry_after=observed["retry_after"],
        status=observed["status"],
    )
    return {"rate_limit": limit}


def _field(name: str, values: Mapping[Any, Any] | None = None) -> Callable[[Json], Changes]:
    """Return a function that sets one field of the profile to the observed value, or to its translation."""

    def change(observed: Json) -> Changes:
        value = observed if values is None else values[observed]
        for part in reversed(name.split(".")):
            value = {part: value}
        changed: Changes = value
        return changed

    return change


def _delays(observed: Json) -> Changes:
    start, network, domain = (float(observed[name]) for name in ("start", "network", "domain"))
    return {
        "provisioning": {
            "start_delay": start,
            "network_delay": network,
            "domain_delay": max(0.0, domain - network),
        }
    }


def _max_lines(observed: Json) -> Changes:
    return {"cluster": {"last_max": observed["lines"]}}


_CHANGES: Final[Mapping[str, Callable[[Json], Changes]]] = {
    "wrong-key": _key,
    "malformed-key": lambda o: _answers(malformed_key_status=o["status"]),
    "redirect": lambda o: _answers(redirect_status=o["status"]),
    "not-found": _not_found,
    "unknown-id": _unknown_id,
    "last-form": lambda o: _answers(bad_last="ignored" if set(o.values()) == {200} else None),
    "check-order": lambda o: _answers(checks_first="id" if o["change"] == "id" else None),
    "pace": _pace,
    "unknown-plan": lambda o: _answers(statuses={"Plan is no longer available": o["status"]}),
    "400-texts": _texts,
    "unknown-fields": lambda o: _answers(extra_fields="forbidden" if o["body"] != "accepted" else None),
    "content-type": lambda o: _answers(content_type="required"),
    "422-details": lambda o: _answers(problems=o),
    **dict.fromkeys(
        ("deploy-fields", "restrictions", "limits", "credentials", "countries", "machine-names", "ssh-keys"),
        _unchecked,
    ),
    **dict.fromkeys(("fields", "minimum-price", "plan-groups", "balances", "me"), _edits),
    "published-plans": _field("published_catalog", {"other prices": False}),
    "newest-first": _field("list_order"),
    "detail-domain": _field("detail_domain"),
    "failed-detail": _field("failed_machine_detail"),
    "login-users": _field("login_by"),
    "machine-ip": _field("machine_address", {"null": "never"}),
    "cents": _field("rounded_amounts", {"finer": False}),
    "next-period": _field("billing_period"),
    "usage-after-end": _field("hourly_usage_after_end"),
    "logs-gone": _field("logs_after_end"),
    "log-form": lambda o: {"cluster": {"console_format": o == ["[pod]: text"]}},
    "event-form": _field("cluster.event_kind", {"without kind": False}),
    "folded": _field("cluster.fold_events", {"repeated": False}),
    "failure-rate": lambda o: {"provisioning": {"failure_rate": float(o["share"])}},
    "reserved-variable": _field("reserved_variable"),
    "deploy-status": lambda o: _answers(deploy_status=o["status"]),
    "date": lambda o: _answers(date_ahead=float(-o["apart"])),
    "list-lag": lambda o: {"list_lag": float(o["seconds"])},
    "before-scheduling": lambda o: _answers(early_logs="error" if o["logs"] == "error" else None),
    "logs-creating": _field("logs_while_creating"),
    "events-stay": lambda o: _answers(late_events="gone"),
    "times": lambda o: {"provisioning": {"median": float(o["container"]), "sigma": 0.0}},
    "delays": _delays,
    "downtime": lambda o: {"update_downtime": o["pod"] == "stopped first"},
    "update-time": lambda o: {"provisioning": {"update_delay": float(o["seconds"])}},
    "last-max": _max_lines,
    "old-pod": lambda o: {"cluster": {"pod_linger": 120.0}},
    "long-line": _field("cluster.line_limit", {"whole": None}),
    "restarts": _field("restarts", {"ended": False}),
    "images-exit": _field("images_exit", {"stays": False}),
    "free-text-places": _field("published_catalog", {"country codes": False}),
}
