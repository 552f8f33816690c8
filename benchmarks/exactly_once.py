"""Prints the table of `docs/money.md`: how many of thousands of random runs end with a name paid for twice.

`python -m benchmarks.exactly_once [runs] [likely|kind]`, from the checkout. The last
argument is the profile of the simulator. The runs are those of `tests/model.py`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import attrs

from aiofluence.lifecycle.journal import Journal
from aiofluence.models.values import Kind
from tests.model import SETTLE, Setting, run

ONE = Setting("one run, settle > lag")
HASTY = attrs.evolve(ONE, lag=90.0)
CRASH = attrs.evolve(ONE, crash=True)
SETTINGS = (
    ONE,
    attrs.evolve(ONE, title="one run, settle > lag, no watch", watch=0.0),
    attrs.evolve(HASTY, title="one run, settle < lag"),
    attrs.evolve(HASTY, title="one run, settle < lag, no watch", watch=0.0),
    attrs.evolve(ONE, title="one run, settle > lag, adopt", adopt=True),
    attrs.evolve(CRASH, title="killed, run again: as it is"),
    attrs.evolve(CRASH, title="killed, run again: adopt", adopt=True),
    attrs.evolve(CRASH, title="killed, run again: journal", journal=True),
    attrs.evolve(CRASH, title="killed, run again: journal, adopt", journal=True, adopt=True),
    attrs.evolve(CRASH, title="the same, settle < lag", journal=True, adopt=True, lag=90.0),
)


def main(runs: int, profile: Literal["likely", "kind"]) -> None:
    print(f"Profile {profile}. {runs} runs of two names each; settle {SETTLE:g} s;", end=" ")
    print("lag up to 25 s, or up to 90 s.\n")
    print(
        "| setting | two live of one name | lost | taken away | duplicates ended | POSTs a name | uncertain |"
    )
    print("|---|---|---|---|---|---|---|")
    for setting in SETTINGS:
        results = [run(attrs.evolve(setting, profile=profile), seed) for seed in range(runs)]
        twice = sum(result.twice > 0 for result in results)
        lost = sum(result.lost > 0 for result in results)
        harmed = sum(result.harmed > 0 for result in results)
        duplicates = sum(result.duplicates for result in results)
        posts = sum(result.posts for result in results) / (2 * runs)
        uncertain = sum(result.uncertain for result in results)
        print(
            f"| {setting.title} | {twice} | {lost} | {harmed} | {duplicates} | {posts:.2f} | {uncertain} |",
            flush=True,
        )
    print(f"\nOne line of the journal: {_line_of_the_journal():.2f} ms, fsync included.")


def _line_of_the_journal(lines: int = 300) -> float:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        journal = Journal(Path(folder) / "journal", "https://api.fluence.dev")
        asyncio.run(journal.open())
        began = time.perf_counter()
        for number in range(lines):
            journal.intend(Kind.CONTAINER, f"exp-{number}", None)
        seconds = time.perf_counter() - began
        journal.close()
    return 1000 * seconds / lines


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    main(runs, "kind" if "kind" in sys.argv[2:] else "likely")
