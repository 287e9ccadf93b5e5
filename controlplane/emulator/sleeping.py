"""Sleep mode: an engine that keeps its process and gives its GPUs' memory back, as vLLM 0.26 does.

`/sleep` pauses the engine (what runs is ended, waited for or kept, new requests queue) and from level 1 on moves the
weights to the host (1) or drops them (2); `/wake_up` brings them back and lets the queue run. After level 2 vLLM
answers nonsense until somebody loads weights again; here the text is made up anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

from aiohttp import web

from controlplane.emulator.errors import ApiError
from controlplane.emulator.service import Conversation

_TAGS = frozenset({"weights", "kv_cache"})


class PauseMode(StrEnum):
    """What becomes of running requests when the engine is paused."""

    ABORT = "abort"
    WAIT = "wait"
    KEEP = "keep"


class Sleeper:
    """Whether one engine sleeps, and how it gets there and back. One request at a time, as the engine core does."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        copy_s: float,
        log: Callable[[str], None],
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        self._conversation = conversation
        self._copy_s = copy_s
        self._log = log
        self._wait = wait
        self._asleep: set[str] = set()
        self._one = asyncio.Lock()

    @property
    def is_sleeping(self) -> bool:
        return self._conversation.engine.is_paused or bool(self._asleep)

    async def sleep(self, level: int, mode: PauseMode) -> None:
        """Pause, and from level 1 on free the GPUs' memory; a second call changes nothing."""
        async with self._one:
            await self._pause(mode)
            if level < 1:
                return
            self._conversation.forget_prefixes()
            if self._asleep:
                self._log("Executor is already sleeping.")
                return
            await self._wait(self._copy_s if level == 1 else 0.0)
            self._asleep = set(_TAGS)
            self._conversation.engine.show_sleep(level)

    async def wake_up(self, tags: Sequence[str] | None) -> None:
        """Bring back what `tags` name (None: everything); requests run again once all of it is back."""
        async with self._one:
            memory = None if tags is None else [tag for tag in tags if tag != "scheduling"]
            if memory is None or memory:
                await self._restore(memory)
            if not self._asleep:
                self._conversation.engine.show_sleep(0)
                self._conversation.engine.resume()

    async def _pause(self, mode: PauseMode) -> None:
        engine = self._conversation.engine
        engine.pause(keep=mode is PauseMode.KEEP)
        if mode is PauseMode.ABORT:
            self._conversation.abort_all()
        if mode is PauseMode.WAIT:
            await engine.drained()

    async def _restore(self, tags: Sequence[str] | None) -> None:
        if not self._asleep:
            self._log("Executor is not sleeping.")
            return
        wanted = self._asleep if tags is None else set(tags)
        if not wanted <= self._asleep:
            self._log(f"Tag {', '.join(sorted(wanted - self._asleep))} is not in sleeping tags {self._asleep}")
            return
        await self._wait(self._copy_s if "weights" in wanted else 0.0)
        self._asleep -= wanted


def sleep_routes(sleeper: Sleeper) -> list[web.RouteDef]:
    """Return the routes that vLLM has under VLLM_SERVER_DEV_MODE."""

    async def sleep(request: web.Request) -> web.StreamResponse:
        try:
            level, mode = int(request.query.get("level", "1")), PauseMode(request.query.get("mode", "abort"))
        except ValueError as error:
            raise ApiError(500, str(error), "InternalServerError") from error
        await sleeper.sleep(level, mode)
        return web.Response()

    async def wake_up(request: web.Request) -> web.StreamResponse:
        await sleeper.wake_up(request.query.getall("tags", None))
        return web.Response()

    async def is_sleeping(request: web.Request) -> web.StreamResponse:
        return web.json_response({"is_sleeping": sleeper.is_sleeping})

    async def collective_rpc(request: web.Request) -> web.StreamResponse:
        """Weights are made up: only that somebody reads them again is understood."""
        given = await request.json()
        if not isinstance(given, dict) or given.get("method") != "reload_weights":
            raise ApiError(400, "only `reload_weights` is emulated", "BadRequestError")
        return web.json_response({"results": [None]})

    return [
        web.post("/collective_rpc", collective_rpc),
        web.post("/sleep", sleep),
        web.post("/wake_up", wake_up),
        web.get("/is_sleeping", is_sleeping),
    ]
