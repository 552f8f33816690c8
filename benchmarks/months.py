"""A session that runs for 30 virtual days: memory, time and requests of 100,000 deploys.

`python -m benchmarks.months [DEPLOYS] [--journal]`. `tests/months.py` contains the deploys.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.months import run_months


def main(arguments: Sequence[str]) -> int:
    numbers = [int(text) for text in arguments if text.isdecimal()]
    deploys = numbers[0] if numbers else 100_000
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal" if "--journal" in arguments else None
        months = run_months(deploys, journal=journal)
    each = months.bytes_a_deploy
    print(f"{deploys:,} deploys in 30 virtual days, {months.live} instances left without a holder")
    print(f"growth: {each:.0f} bytes a deploy, {each * 100_000 / 2**20:.1f} MiB in 100,000")
    print("CPU seconds of each tenth: " + ", ".join(f"{seconds:.1f}" for seconds in months.seconds))
    print("requests in each tenth: " + ", ".join(map(str, months.requests)))
    if journal is not None:
        print(f"journal: {months.journal:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
