"""Thousands of random scenarios (`tests/lives.py`): how many lose money, and which.

`python -m benchmarks.lives [FIRST LAST] [--out FILE] [--processes 2] [--kinds a,b]`. FILE gets one line of
JSON per scenario. A second call with the same FILE skips its seeds. The table is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.lives import CLASSES, KINDS, run_life


def _one(job: tuple[int, tuple[str, ...] | None]) -> dict[str, Any]:
    seed, kinds = job
    try:
        verdict = run_life(seed, kinds)
    except Exception as error:  # a fault of the judge must not lose the other scenarios
        return {"seed": seed, "kinds": [], "violations": [["judge", repr(error)]], "counts": {}, "seconds": 0}
    return {
        "seed": seed,
        "kinds": verdict.kinds,
        "violations": [[each.kind, each.text] for each in verdict.violations],
        "counts": verdict.counts,
        "seconds": round(verdict.seconds, 3),
    }


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue  # an incomplete line of an interrupted run
    return lines


def table(lives: Iterable[dict[str, Any]]) -> str:
    """Return a table of violations by class, with seeds, and sums of the figures."""
    broken: dict[str, list[int]] = defaultdict(list)
    sums: Counter[str] = Counter()
    number = 0
    for life in lives:
        number += 1
        sums.update(life["counts"])
        for kind in {kind for kind, _ in life["violations"]}:
            broken[kind].append(life["seed"])
    lines = [f"{number} lives; " + ", ".join(f"{value:,} {key}" for key, value in sums.items()), ""]
    lines += ["| broken promise | lives | seeds |", "|---|---|---|"]
    for kind in (*CLASSES, *(set(broken) - set(CLASSES))):
        seeds = broken.get(kind, [])
        lines.append(f"| {kind} | {len(seeds)} | {' '.join(map(str, sorted(seeds)[:12]))} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("last", type=int, nargs="?", default=10_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kinds", type=lambda text: tuple(text.split(",")))
    given = parser.parse_args(arguments)
    if given.kinds and (unknown := set(given.kinds) - set(KINDS)):
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}")
    lives = [life for life in _read(given.out) if given.first <= life["seed"] < given.last]
    done = {life["seed"] for life in lives}
    jobs = [(seed, given.kinds) for seed in range(given.first, given.last) if seed not in done]
    with multiprocessing.Pool(given.processes, maxtasksperchild=200) as pool:
        for life in pool.imap_unordered(_one, jobs, chunksize=4):
            lives.append(life)
            if given.out is not None:
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(life) + "\n")
            if len(lives) % 500 == 0:
                print(f"{len(lives)} lives", file=sys.stderr, flush=True)
    print(table(lives))
    return 1 if any(life["violations"] for life in lives) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
