"""Commands that control a running simulator: `python -m aiofluence.simulator sell-out rtx4090`, for example.

Each is one or two requests to its control API, over the standard library's HTTP client.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.request
from typing import Any, Final

_URL: Final = "http://127.0.0.1:8080"
_DIRECTLY: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ControlError(Exception):
    """The simulator refused a command, or cannot be reached. The message is for the user."""


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser of `python -m aiofluence.simulator`."""
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands for a simulator that runs", required=False
    )

    def add(name: str, help: str, *arguments: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.add_argument("--url", help="address of the simulator (default: FLUENCE_BASE_URL)")
        for argument in arguments:
            command.add_argument(argument)
        return command

    add("state", "Show time, balance, instances and pending faults as JSON.")
    add("stock", "List the plans that are for sale.")
    add("sell-out", "Sell out a plan (id or name), or all plans of a GPU.", "plan")
    add("restock", "Undo sell-out.", "plan")
    add("balance", "Set the USDC on the account.", "amount")
    add("print", "Make a running container (id or name) print lines.", "instance").add_argument(
        "line", nargs="+"
    )
    add("advance", "Let simulated time pass.").add_argument("seconds", type=float)
    fail = add("fail", "Script a fault, such as: fail 'POST /gpu/instances/' reset.", "operation", "fault")
    fail.add_argument("--code", type=int, help="status of a fault of kind status")
    fail.add_argument("--seconds", type=float, help="delay of a fault of kind slow")
    fail.add_argument("--body", help="body of a fault of kind status or body")
    fail.add_argument("--times", type=int, help="number of requests to strike (default: 1)")
    fail.add_argument("--when", help="before the request takes effect, or after (default: before)")
    add("clear", "Remove all faults.")
    add("reset", "Begin anew at second 0.")


def run_command(options: argparse.Namespace) -> list[str]:
    """Run the command of `options`, and return the lines to print.

    Raises:
        ControlError: the simulator refused it, or cannot be reached.
    """
    command = options.command
    url = (options.url or os.environ.get("FLUENCE_BASE_URL") or _URL).rstrip("/").removesuffix("/gpu")
    if command in ("sell-out", "restock"):
        plans = _plans(url, options.plan)
        change = [{"plan_id": plan["plan_id"], "sold_out": command == "sell-out"} for plan in plans]
        _ask(url, "stock", {"stock": change})
        return [f"{plan['plan']} ({plan['kind']}): {_SALE[command == 'sell-out']}" for plan in plans]
    if command == "stock":
        stock = _ask(url, "stock")["stock"]
        return [f"{p['plan_id']}  {p['kind']:9}  {p['plan']:28}  {_SALE[p['sold_out']]}" for p in stock]
    if command == "balance":
        return [f"{_ask(url, 'balance', {'balance': options.amount})['balance']} USDC"]
    if command == "print":
        _ask(url, "logs", {"instance_id": _instance_id(url, options.instance), "lines": options.line})
        return []
    if command == "advance":
        return [_ask(url, "clock", {"advance": options.seconds})["time"]]
    if command == "fail":
        names = ("operation", "fault", "code", "seconds", "body", "times", "when")
        given = {name: value for name in names if (value := getattr(options, name)) is not None}
        return [_fault(fault) for fault in _ask(url, "faults", given)["faults"]]
    if command == "clear":
        warnings: list[str] = _ask(url, "faults", method="DELETE")["warnings"]
        return warnings
    reply = _ask(url, "reset", {}) if command == "reset" else _ask(url, "state")
    return [json.dumps(reply, indent=1)]


_SALE: Final = {False: "for sale", True: "sold out"}


def _plans(url: str, name: str) -> list[dict[str, Any]]:
    stock: list[dict[str, Any]] = _ask(url, "stock")["stock"]
    if found := [plan for plan in stock if name in (plan["plan_id"], plan["plan"], plan["gpu"])]:
        return found
    raise ControlError(f"no plan and no GPU is called {name}; the command stock lists the plans")


def _instance_id(url: str, name: str) -> str:
    running = [each for each in _ask(url, "state")["instances"] if each["status"] == "ACTIVE"]
    found = [each["id"] for each in running if name in (each["id"], each["name"])]
    if len(found) == 1:
        return str(found[0])
    names = ", ".join(each["name"] for each in running) or "none"
    raise ControlError(f"{len(found) or 'no'} running instances are called {name}; there are: {names}")


def _fault(fault: dict[str, Any]) -> str:
    kind = " ".join(str(fault[name]) for name in ("fault", "code", "seconds") if name in fault)
    times = "every time" if fault["times"] is None else f"{fault['times']} x"
    return f"{fault['operation']}: {kind}, {times}, struck {fault['struck']}"


def _ask(url: str, path: str, body: object = None, method: str | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/_sim/{path}", data, method=method)
    try:
        with _DIRECTLY.open(request, timeout=30) as reply:
            value: dict[str, Any] = json.load(reply)
            return value
    except urllib.error.HTTPError as error:
        try:
            problem = "; ".join(json.load(error)["problems"])
        except (ValueError, KeyError, TypeError):
            problem = f"{url} is no simulator: it answered {error.code} on /_sim/"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        problem = f"no simulator at {url} ({reason}); start one, or give its address with --url"
    raise ControlError(problem)
