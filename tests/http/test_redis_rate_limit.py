"""`RedisRate` without a Redis: what it refuses, and what it does not show. With one: tests/shared_rate."""

from __future__ import annotations

import sys

import pytest

from aiofluence import ConfigError, RateLimit, RedisRate, Session


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"redis://.*share over 0.*a name"):
        RedisRate("http://localhost", share=0, name="")
    for share in (-1.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="share"):
            RedisRate("redis://localhost", share=share)


def test_no_repr_shows_the_password() -> None:
    rate = RedisRate("redis://:hidden@localhost:6379/0", RateLimit(5))
    assert "hidden" not in repr(rate)
    assert "per_second=5" in repr(rate)


def test_a_url_that_redis_does_not_understand() -> None:
    pytest.importorskip("redis")
    with pytest.raises(ConfigError, match="url") as caught:
        Session("key", rate=RedisRate("redis://:hidden@localhost:port/0"))
    assert "hidden" not in str(caught.value)
    assert caught.value.__context__ is None


def test_the_error_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)
    with pytest.raises(ConfigError, match=r"with its extra `redis`"):
        Session("key", rate=RedisRate("redis://localhost"))
