"""Policy for deploys: which replies to a POST are unclear, and how long a session polls after them.

Pure judgement: sends nothing and waits for nothing.
"""

from __future__ import annotations

import attrs

from ..errors import ConfigError, ServerError
from ..http.retry import is_certain as is_certain


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
