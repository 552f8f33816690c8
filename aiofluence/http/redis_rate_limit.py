"""A rate for many processes and hosts: a rate limiter with grants from Redis or Valkey.

`_SharedRateLimiter` inherits priorities, the limit of requests in flight and the timer from `RateLimiter`.
Only its grants come from Redis, a few at a time. Without a connection to Redis, it is a plain `RateLimiter`
with a share of the rate. The redis library is imported on first use.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from ..errors import ConfigError
from .rate_limit import CUT, EARLY, FLOOR, RECOVERY, RateLimit, RateLimiter, Spawn

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub
    from redis.commands.core import AsyncScript

log: Final = logging.getLogger("aiofluence")


@attrs.frozen
class RedisRate:
    """A rate shared by every session, in any process and on any host, that names the same budget.

    Together, all sessions keep to `limit` in any window. While all sessions have calls pending, each gets an
    equal part. A 429 or 503 to one session slows all sessions. Needs the extra `[redis]`, and Redis 5 or
    Valkey.

    While Redis does not answer, each process sends at `share` of the rate, one request after the other. It
    rejoins once Redis answers. With a share of 1 / processes, all keep to the budget even then.

    Attributes:
        url: `redis://`, `rediss://` or `unix://`. No repr shows it, because it may hold a password.
        limit: limit of all sessions together. A `burst` below 1 + a tenth of `per_second` counts as that,
            because processes cannot synchronise their time to less than 0.1 s.
        share: fraction of `limit.per_second` for each process while Redis is unreachable; over 0, up to 1.
        name: name of the budget, such as one for each API key. Sessions with the same name share it.
    """

    url: str = attrs.field(repr=False)
    limit: RateLimit = attrs.field(factory=RateLimit)
    share: float = 0.25
    name: str = "fluence"

    def __attrs_post_init__(self) -> None:
        problems = []
        if not self.url.startswith(("redis://", "rediss://", "unix://")):
            problems.append("a url that begins with redis://, rediss:// or unix://")
        if not 0 < self.share <= 1:
            problems.append("a share over 0 and up to 1")
        if not self.name:
            problems.append("a name")
        if problems:
            raise ConfigError(f"RedisRate needs {', '.join(problems)}")

    def limiter(self, max_in_flight: int) -> RateLimiter:
        """Create the rate limiter of one session that shares this rate."""
        try:
            from redis.asyncio.connection import parse_url

            parse_url(self.url)
        except ImportError:
            raise ConfigError("RedisRate needs redis: install aiofluence with its extra `redis`") from None
        except ValueError:
            problem = "RedisRate's url is none that the redis library understands"
        else:
            return _SharedRateLimiter(self, max_in_flight)
        raise ConfigError(problem)  # raised outside `except`: the library's error may quote the url

    def _client(self) -> Redis:
        from redis.asyncio import from_url
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        # No retries here: a session without Redis uses its share of the rate, and connects again later.
        return from_url(self.url, retry=Retry(NoBackoff(), 0), decode_responses=True)


_PATIENCE: Final = 1.0
"""Seconds in which Redis must answer."""
_RETRY: Final = 0.25
_GRACE: Final = 0.5
"""Seconds without grants after Redis has come back empty, until all sessions have noticed its return."""
_ASKS_PER_SECOND: Final = 8
"""Requests per second that all busy sessions together send to Redis. With more, each call would need its own
request. With fewer, a process that dies would lose more grants, and others would wait longer."""
_LATE: Final = (0.1, 0.5)

_SCRIPT: Final = """
-- KEYS: the budget. ARGV: requests per second, burst, number of grants wanted, successes since the last call,
-- the epoch of a refused request (or ''), its pause (or -1), seconds to wait for a new budget.
local per_second, burst, wanted, successes, refused_in, pause, grace, CUT, FLOOR, RECOVERY = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local function text(number) return string.format('%.6f', number) end

local names = {'opens', 'not_before', 'part', 'seen', 'epoch'}
local opens, not_before, part, seen, epoch = unpack(redis.call('HMGET', KEYS[1], unpack(names)))
if opens then
    opens, not_before, part, seen = tonumber(opens), tonumber(not_before), tonumber(part), tonumber(seen)
    local back = math.max(0, seen - now)  -- the server's clock was set back
    opens, not_before = opens - back, not_before - back
else  -- a new or lost budget: recent requests are unknown, so there is no burst yet
    not_before = now + grace
    opens, part, epoch = not_before, 1, text(now)
end

part = math.min(1, part + successes * RECOVERY)
pause = tonumber(pause)
if pause >= 0 then
    local cut = refused_in == epoch  -- otherwise all sessions know this refusal already
    if cut then part = math.max(FLOOR, part * CUT) end
    if cut or pause > 0 and now + pause > not_before then  -- a known refusal can only lengthen the pause
        -- Earlier grants are void: sessions that hold some ask again. No grant or burst before `not_before`.
        not_before = math.max(not_before, now + pause)
        opens, epoch = not_before, text(math.max(now, epoch + 1e-6))  -- increases even if the clock does not
        redis.call('PUBLISH', KEYS[1], epoch .. ' ' .. text(not_before - now))
    end
end

-- GCRA. `opens` is the time of the next grant. It is in the past while part of the burst is unused.
local interval = 1 / (per_second * part)
opens = math.max(opens, now - (burst - 1) * interval)
local reply = {epoch, text(part), text(math.max(0, not_before - now))}
for turn = 1, wanted do
    reply[3 + turn] = text(math.max(0, opens - now))
    opens = opens + interval
end
redis.call('HSET', KEYS[1], 'opens', text(opens), 'not_before', text(not_before), 'part', text(part),
    'seen', text(now), 'epoch', epoch)
redis.call('EXPIRE', KEYS[1], 3600)
return reply
"""


@attrs.frozen
class _Turn:
    """A grant to send one request between two loop times. Later, it would count in another window."""

    opens: float
    until: float
    epoch: str


@attrs.frozen
class _Complaint:
    """A 429 or 503 to a request of `epoch`: no session may send before loop time `until`."""

    epoch: str
    until: float


class _SharedRateLimiter(RateLimiter):
    """A rate limiter with grants from Redis, or from its own GCRA while Redis is unreachable."""

    def __init__(self, rate: RedisRate, max_in_flight: int) -> None:
        limit = rate.limit
        super().__init__(RateLimit(limit.per_second * rate.share, burst=1), max_in_flight)
        self._source = rate
        self._key = f"aiofluence:rate:{rate.name}"
        # A grant is valid for `late` seconds after it opens. A part of the burst is reserved for that.
        shortest, longest = _LATE
        self._late = max(shortest, min(longest, (limit.burst - 1) / 2 / limit.per_second))
        self._burst = max(1.0, limit.burst - limit.per_second * self._late)
        self._part = 1.0
        self._pace = limit.per_second
        self._turns: deque[_Turn] = deque()
        self._epoch = ""
        """Epoch since the last refusal in any session. Grants of an earlier epoch are void."""
        self._successes = 0
        self._complaint: _Complaint | None = None
        self._shared = False
        self._wake = asyncio.Event()

    @property
    def rate(self) -> float:
        """Requests per second that this session sends now, according to its last grants."""
        return self._pace if self._shared else super().rate

    def open(self, spawn: Spawn) -> None:
        self._shared = True  # assume that Redis answers: the first call waits for it
        spawn(self._stay_connected())

    def succeeded(self) -> None:
        super().succeeded()
        if self._part < 1:
            self._successes += 1

    def refused(self, sent_at: float, pause: float | None) -> None:
        echo = sent_at <= self._last_cut
        super().refused(sent_at, pause)
        if self._shared:
            until = asyncio.get_running_loop().time() + (pause or 0.0)
            pending = self._complaint or _Complaint("", until)
            self._complaint = _Complaint(pending.epoch if echo else self._epoch, max(pending.until, until))
            self._wake.set()

    def _opens_at(self) -> float:
        if not self._shared:
            return super()._opens_at()
        if self._free <= 0:
            return math.inf
        now = asyncio.get_running_loop().time()
        while self._turns and self._turns[0].until < now:
            self._turns.popleft()
        if self._turns:
            return max(self._not_before, self._turns[0].opens)
        # Without a grant, only the end of a pause needs a timer, which then asks for grants.
        return self._not_before if self._not_before > now + EARLY else math.inf

    def _take(self, now: float) -> Any:
        if not self._shared:
            return super()._take(now)
        self._free -= 1
        return self._turns.popleft()

    def _give_back(self, taken: Any) -> None:
        if not isinstance(taken, _Turn):
            super()._give_back(taken)
        elif taken.epoch == self._epoch:
            self._turns.appendleft(taken)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        super()._serve(loop)
        if self._wanted(loop.time()):
            self._wake.set()

    def _wanted(self, now: float) -> int:
        """Return the number of grants to ask for: none in advance, and few, so that all sessions get some."""
        if self._turns or now + EARLY < self._not_before:
            return 0
        few = max(2, math.ceil(self._source.limit.per_second * self._part / _ASKS_PER_SECOND))
        return max(0, min(few, self._waiting, self._free))

    async def _stay_connected(self) -> None:
        """Connect, ask for grants, and reconnect, until the session closes."""
        while True:
            try:
                async with self._source._client() as client, client.pubsub() as news:
                    async with asyncio.timeout(_PATIENCE):
                        await news.subscribe(self._key)
                        await news.get_message(timeout=None)  # the confirmation of the subscription
                    async with anyio.create_task_group() as group:
                        group.start_soon(self._listen, news)
                        await self._ask_repeatedly(client.register_script(_SCRIPT))
            except* Exception as errors:
                # Whatever failed: without Redis this rate limiter must still grant, and must still limit.
                self._lose(errors)
            await asyncio.sleep(_RETRY)

    async def _listen(self, news: PubSub) -> None:
        """Receive the refusals of other sessions."""
        async for message in news.listen():
            epoch, pause = message["data"].split()
            self._adopt(epoch, float(pause))

    async def _ask_repeatedly(self, script: AsyncScript) -> None:
        """Register with Redis, then ask whenever grants are wanted or a refusal must be published."""
        await self._ask(script, 0)
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted = self._wanted(asyncio.get_running_loop().time())
            if wanted or self._complaint:
                await self._ask(script, wanted)

    async def _ask(self, script: AsyncScript, wanted: int) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        limit, known = self._source.limit, self._epoch
        complaint, self._complaint = self._complaint, None
        successes, self._successes = self._successes, 0
        refusal = (complaint.epoch, max(0.0, complaint.until - asked)) if complaint else ("", -1)
        grace = 0 if self._shared else _GRACE
        news = (successes, *refusal, grace, CUT, FLOOR, RECOVERY)
        # Grants that travel longer than they are valid are useless.
        async with asyncio.timeout(self._late if wanted else _PATIENCE):
            reply = await script(keys=[self._key], args=[limit.per_second, self._burst, wanted, *news])
        answered = loop.time()
        epoch, part, pause, *ahead = (reply[0], *map(float, reply[1:]))
        self._part = part
        if self._epoch == known or float(epoch) >= float(self._epoch):
            self._adopt(epoch, pause)
            # The server answered between `asked` and `answered`. Opening at `answered` is never too early,
            # and expiring relative to `asked` is never too late.
            self._turns.extend(_Turn(answered + d, asked + d + self._late, epoch) for d in ahead)
        # Otherwise a refusal arrived before this answer, and its grants are void.
        if ahead:
            self._pace = min(limit.per_second * part, len(ahead) / max(ahead[-1], 1e-9))
        if not self._shared:
            self._shared = True
            log.info("the shared rate is back")
        self._serve(loop)

    def _adopt(self, epoch: str, pause: float) -> None:
        """Apply a refusal of any session: void earlier grants, and send nothing for `pause` seconds."""
        if epoch == self._epoch:
            return
        loop = asyncio.get_running_loop()
        self._epoch = epoch
        self._last_cut = loop.time()
        self._not_before = max(self._not_before, self._last_cut + pause)
        self._turns.clear()
        self._serve(loop)

    def _lose(self, errors: BaseException) -> None:
        """Continue without Redis and without a burst, which other sessions may have used up."""
        if not self._shared:
            return
        while isinstance(errors, BaseExceptionGroup):
            errors = errors.exceptions[0]
        percent = 100 * self._source.share
        log.warning(
            "no shared rate (%s): continuing with %.0f %% of the rate", type(errors).__name__, percent
        )
        self._shared = False
        self._epoch = ""
        self._turns.clear()
        loop = asyncio.get_running_loop()
        self._pause(loop.time() + 1 / self._rate)
        self._serve(loop)
