"""Journals for tests: lines as a run of the simulator's account writes them, and files of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiofluence.lifecycle.journal import Journal
from aiofluence.lifecycle.journal_lines import Account
from aiofluence.simulator import DEFAULT_API_KEY

ORIGIN = "https://api.fluence.dev"


def journal_at(path: Path | None, api_key: str = DEFAULT_API_KEY) -> Journal:
    """A journal that is not open yet."""
    return Journal(path, ORIGIN, api_key)


def entry(run: str, number: int, event: str, **more: object) -> dict[str, Any]:
    """A line of this account."""
    about = {
        "kind": "container",
        "name": "exp-1",
        "origin": ORIGIN,
        "account": Account(DEFAULT_API_KEY).fingerprint(run),
    }
    return {"run": run, "n": number, "event": event} | (about if event == "intent" else {}) | more


def write(path: Path, *lines: object, torn: str = "") -> None:
    """Make a journal of these lines."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + torn)


def events(path: Path) -> list[str]:
    """The events in the file, in order."""
    return [json.loads(line)["event"] for line in path.read_text().splitlines() if line]
