"""The options of polls: `Poll`.

Values only. `schedule` plans the polls.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs

from ..errors import ConfigError


def _of_interval(share: float) -> Any:
    return attrs.field(default=attrs.Factory(lambda poll: poll.interval * share, takes_self=True))


@attrs.frozen
class Poll:
    """Options of the polls. One poll serves all waits of a session, by LIST if that is cheaper.

    Waits of minutes need no options. In time-lapse, give `interval` alone: the other defaults follow from
    `interval` in proportion.

    Attributes:
        interval: longest gap between two polls, in seconds, while an instance is likely to become ready.
        cost: cost of a poll, in seconds for which instances are ready but undetected, summed over all waits.
        expected: first guess of the seconds that provisioning takes. Observed times soon outweigh the guess.
            None is a mixture around the times that the service's guides show.
        earliest: seconds before which no instance is ready. Until then `interval` is no limit.
        prefer: the requests that go first when the rate is short. `"details"` hands ready instances over
            before further deploys, so that less paid time is idle. `"deploys"` sends all deploys first.
    """

    interval: float = 10.0
    cost: float = _of_interval(1 / 2)
    expected: float | None = None
    earliest: float = 0.0
    prefer: Literal["details", "deploys"] = "details"

    def __attrs_post_init__(self) -> None:
        numbers = (self.interval, self.cost, 1.0 if self.expected is None else self.expected)
        if not (all(0 < number < math.inf for number in numbers) and self.earliest >= 0):
            raise ConfigError("Poll needs interval, cost and expected > 0, and earliest >= 0")
        if self.prefer not in ("details", "deploys"):
            raise ConfigError(f"Poll prefers 'details' or 'deploys', not {self.prefer!r}")

    @property
    def pace(self) -> float:
        """Real seconds to a second of the default's: 1, and less in time-lapse. Tails use it, too."""
        return self.interval / 10
