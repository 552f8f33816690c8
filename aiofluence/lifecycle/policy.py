"""What the answer to a deploy's POST means, and how patient to be with it.

Pure judgement: it sends nothing and waits for nothing.
"""

from __future__ import annotations

import attrs

from ..errors import (
    ConfigError,
    DecodeError,
    FluenceError,
    NoReplyError,
    RateLimitedError,
    ReplyError,
    ServerError,
)
from ..retry import is_refusal


@attrs.frozen
class DeployPolicy:
    """How a deploy whose outcome is unclear is cleared up.

    Attributes:
        settle: seconds for which a list that shows nothing proves nothing: the service must commit and
            list a deploy within this time.
        watch: seconds for which the session goes on looking, after an unclear attempt, for a twin that was
            committed late; of two, the one that was handed over stays.
        max_posts: how often one deploy is sent at most.
        trust_503: take a 503 as "refused at the door", as nginx means it; one look, and it is sent again.
    """

    settle: float = 90.0
    watch: float = 300.0
    max_posts: int = 3
    trust_503: bool = True

    def __attrs_post_init__(self) -> None:
        if not (self.settle >= 0 and self.watch >= 0 and self.max_posts >= 1):
            raise ConfigError("DeployPolicy needs settle >= 0, watch >= 0 and max_posts >= 1")


def refused_at_the_door(error: FluenceError, policy: DeployPolicy) -> bool:
    """Whether the POST certainly did nothing: 429, and 503 if that is to be trusted."""
    return isinstance(error, RateLimitedError) or (policy.trust_503 and is_refusal(error))


def is_unclear(error: FluenceError) -> bool:
    """Whether the POST may have worked. Everything counts that is not a plain refusal."""
    if isinstance(error, ReplyError):
        return isinstance(error, ServerError) or error.status == 408
    return isinstance(error, NoReplyError | DecodeError)
