"""Journals for tests: lines of the simulator's account, and files with such lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiofluence.lifecycle.journal import Journal
from aiofluence.lifecycle.journal_entries import Account
from aiofluence.simulator import DEFAULT_API_KEY

ORIGIN = "https://api.fluence.dev"


def journal_at(path: Path | None, api_key: str = DEFAULT_API_KEY) -> Journal:
    """Return a journal that is not open yet."""
    return Journal(path, ORIGIN, api_key)


def entry(run: str, number: int, event: str, **more: object) -> dict[str, Any]:
    """Return a journal line of the simulator's account."""
    about = {
        "kind": "container",
        "name": "exp-1",
        "origin": ORIGIN,
        "account": Account(DEFAULT_API_KEY).fingerprint(run),
    }
    return {"run": run, "n": number, "event": event} | (about if event == "intent" else {}) | more


def write(path: Path, *lines: object, torn: str = "") -> None:
    """Write a journal with these lines. `torn` is an unfinished last line."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + torn)


def events(path: Path) -> list[str]:
    """Return the events in the file, in order."""
    return [json.loads(line)["event"] for line in path.read_text().splitlines() if line]
