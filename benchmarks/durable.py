"""Prints the table of `docs/durable.md`: fleets whose worker is killed at random moments, with two engines.

`python -m benchmarks.durable [size] [kills] [seed ...]`, from the checkout, with the group `engines`. The
simulated lives are those of `tests/engines/lives.py`. A row takes a minute or two.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.engines.lives import ENGINES, live_and_die


async def main(size: int, kills: int, seeds: Sequence[int]) -> None:
    print(f"{size} containers; 20 % of the deploys get no answer, 5 % of all other requests fail.\n")
    print(
        "| run | kills while launching | with a deploy in flight | while ending | answers lost "
        "| live | names | paid twice | left | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for engine in ENGINES:
        for seed, careless in [*((seed, False) for seed in seeds), (seeds[0], True)]:
            with tempfile.TemporaryDirectory() as folder:
                figures = await live_and_die(
                    engine, Path(folder), size=size, kills=kills, seed=seed, careless=careless
                )
            title = f"{engine} {seed}{', careless' if careless else ''}"
            print(
                f"| {title} | {figures.launching} | {figures.in_flight} | {figures.ending} "
                f"| {figures.lost} | {len(figures.live)} | {len(set(figures.live))} "
                f"| {figures.twice} | {figures.left} | {figures.seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    asyncio.run(main(*given[:2], given[2:] or [1, 2, 3]) if len(given) > 1 else main(50, 10, [1, 2, 3]))
