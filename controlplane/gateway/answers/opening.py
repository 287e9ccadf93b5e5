"""Where a gateway keeps answers, and who finds questions that sound alike: made by its settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cache
from random import Random
from typing import TYPE_CHECKING

import aiohttp

from controlplane.gateway.answers.entry import AnswerStore
from controlplane.gateway.answers.memory import MemoryAnswers
from controlplane.gateway.answers.shared import SharedAnswers, open_redis
from controlplane.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from controlplane.gateway.answers.alike import Alike


def alike(settings: GatewaySettings, session: aiohttp.ClientSession) -> Callable[[], Alike]:
    """Return what makes the finder when it is first wanted: it brings numpy into the process."""

    @cache
    def made() -> Alike:
        from controlplane.gateway.answers.alike import Alike
        from controlplane.gateway.answers.embedding import embedder

        return Alike(lambda options: embedder(options, session), Random(settings.seed))

    return made


def answer_store(settings: GatewaySettings, stack: AsyncExitStack) -> AnswerStore:
    """Return the store, closed when the stack is left. Raises InvalidInput."""
    if settings.cache_redis_url is None:
        return MemoryAnswers(settings.cache_bytes, time.monotonic)
    shared = SharedAnswers(
        open_redis(settings.cache_redis_url.get_secret_value(), settings.cache_answer_within_s), time.monotonic
    )
    stack.push_async_callback(shared.close)
    return shared
