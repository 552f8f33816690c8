"""`aiofluence conformance --level paid` under 15 % random faults, killed at random moments.

`python -m benchmarks.conformance_kills [FIRST LAST]`, from the checkout; 200 lives by default. Prints sums,
and each life that left an instance or cost more than the limit. POSIX only.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from tests.conformance.kills import Life, lives


def main(arguments: Sequence[str]) -> int:
    """Run the lives. Return 1 if one of them is not sound."""
    first, last = (int(each) for each in arguments) if len(arguments) == 2 else (0, 200)
    found = lives(range(first, last), _say)
    after = Counter(life.then or "ended before the kill" for life in found)
    dearest = max(life.dearest / life.max_cost for life in found if life.max_cost)
    print(f"{len(found)} lives: {dict(after)}, {sum(life.deployed for life in found)} instances deployed")
    print(f"left running: {sum(len(life.left) for life in found)}; dearest run: {dearest:.0%} of --max-cost")
    bad = [life for life in found if not life.is_sound]
    print(f"not sound: {len(bad)}")
    return 1 if bad else 0


def _say(life: Life) -> None:
    if not life.is_sound:
        print(life, flush=True)
    elif life.seed % 20 == 19:
        print(f"{life.seed + 1} lives", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
