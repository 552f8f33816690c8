"""The options of deploys and waits: `Until`, `OnFailure` and `DeployPolicy`.

Values only, without the code that deploys and waits.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias

import attrs

from ..errors import ConfigError, ServerError

OnFailure: TypeAlias = Literal["terminate", "keep"]


class Until(Enum):
    """The state that a wait requires of an instance."""

    ACTIVE = "active"
    """The status is ACTIVE."""
    READY = "ready"
    """ACTIVE and usable: a container has started and has a domain, a machine has its SSH line.

    A container that was seen not running must run for 10 s. A crash loop is a failure.
    """
    REACHABLE = "reachable"
    """READY, and a TCP connection to the SSH port, or else the first exposed TCP port, succeeds."""


@attrs.frozen
class DeployPolicy:
    """Time and POSTs for a deploy whose outcome is unclear.

    A reply is unclear unless it proves that no instance was created. See `is_certain`.

    Attributes:
        settle: seconds for which a LIST without the name proves nothing. The service must commit and list a
            deploy within this time.
        watch: seconds for which the session keeps polling after an unclear attempt, for a duplicate that is
            committed late. Of two instances, the session keeps the instance that was handed over.
        max_posts: largest number of POSTs for one deploy, whatever the replies.
        trust_503: after a 503, poll once instead of for `settle` seconds before the next POST. Safe only
            behind a gateway that answers 503 without a request to the service.
    """

    settle: float = 90.0
    watch: float = 300.0
    max_posts: int = 3
    trust_503: bool = False

    def __attrs_post_init__(self) -> None:
        if not (self.settle >= 0 and self.watch >= 0 and self.max_posts >= 1):
            raise ConfigError("DeployPolicy needs settle >= 0, watch >= 0 and max_posts >= 1")

    def settle_after(self, error: BaseException) -> float:
        """Seconds for which a LIST without the name proves nothing after `error`."""
        is_503 = isinstance(error, ServerError) and error.status == 503
        return 0.0 if is_503 and self.trust_503 else self.settle
