"""Answers kept in a Redis, for all gateways that are given the same one. Needs the extra `redis`.

Redis bounds its own memory (`maxmemory`, with a policy such as `allkeys-lru`). Whoever reads it reads answers: it
belongs behind a password, and beyond this machine behind TLS (`rediss://`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from controlplane.domain.errors import InvalidInput
from controlplane.gateway.answers.entry import Entry

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = logging.getLogger(__name__)

LEFT_ALONE_S = 5.0

_PREFIX = b"fleetune:answer:"
_decoder = msgspec.msgpack.Decoder(Entry)

T = TypeVar("T")


def open_redis(url: str, answer_within_s: float, *, of: str = "the cache") -> Redis:
    """Return a client, named in errors by what it is `of`; it connects when first used.

    Raises InvalidInput without the extra, or for no URL of a Redis.
    """
    try:
        from redis.asyncio import Redis
    except ImportError as error:
        raise InvalidInput(
            f"the Redis of {of} cannot be used", why="redis is not installed", allowed="pip install fleetune[redis]"
        ) from error
    try:
        return Redis.from_url(url, socket_timeout=answer_within_s, socket_connect_timeout=answer_within_s, retry=None)
    except ValueError as error:  # its message quotes the URL, and the password in it
        raise InvalidInput(
            f"the URL of the Redis of {of} cannot be used", allowed="redis://, rediss:// or unix:// URLs"
        ) from error


class SharedAnswers:
    """See `AnswerStore`. A Redis that fails is left alone for 5 s: until then nothing is found. `monotonic` is in s."""

    def __init__(self, redis: Redis, monotonic: Callable[[], float]) -> None:
        self._redis = redis
        self._monotonic = monotonic
        self._again_at = float("-inf")
        self.failing = False

    async def get(self, key: bytes) -> Entry | None:
        found = await self._asked(lambda: self._redis.get(_PREFIX + key))
        try:
            return _decoder.decode(found) if isinstance(found, bytes) else None
        except msgspec.DecodeError:  # another version's
            return None

    async def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        packed = msgspec.msgpack.encode(entry)
        await self._asked(lambda: self._redis.set(_PREFIX + key, packed, px=max(1, int(ttl_s * 1000))))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        from redis.exceptions import RedisError

        if self._monotonic() < self._again_at:
            return None
        try:
            answer = await ask()
        except (RedisError, OSError, TimeoutError) as error:
            self._again_at = self._monotonic() + LEFT_ALONE_S
            if not self.failing:
                _log.warning("the cache's Redis fails: %s; answers come from engines meanwhile", type(error).__name__)
            self.failing = True
            return None
        self.failing = False
        return answer
