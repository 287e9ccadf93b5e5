"""The life of one emulated engine: start-up, serving, faults, drain, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable

from aiohttp import web

from controlplane.emulator.assembly import assemble
from controlplane.emulator.boot import DEFAULT_STARTUP_S, cuda_out_of_memory
from controlplane.emulator.clock import precise_event_loop
from controlplane.emulator.faults import Crash, Faults
from controlplane.emulator.server import admin_app
from controlplane.emulator.service import Conversation
from controlplane.emulator.settings import EmulatorSettings
from tuner.space.knobs.schema import load_knobs
from tuner.twin.engine import TwinEngine
from tuner.twin.setup import EngineSetup
from tuner.twin.shapes import ModelShape

_CLOSING_S = 1.0
_LARGEST_HEAD = 4 * 2**20  # vLLM's --h11-max-incomplete-event-size
_KEEPALIVE_S = 5.0  # vLLM's VLLM_HTTP_TIMEOUT_KEEP_ALIVE: clients must cope with it
_GPU_ERROR = "RuntimeError: CUDA error: an illegal memory access was encountered (emulated fault)"


def live_until_told(process: EmulatorProcess) -> int:
    """Run one engine in an event loop of its own; returns its exit code."""
    with asyncio.Runner(loop_factory=precise_event_loop) as runner:
        return runner.run(process.live())


class EmulatorProcess:
    """Everything of one engine process. `listener` is bound already, `live` makes it answer."""

    def __init__(
        self,
        settings: EmulatorSettings,
        shape: ModelShape,
        setup: EngineSetup,
        *,
        listener: socket.socket,
        log: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._setup = setup
        self._listener = listener
        self._log = log
        self._vocabulary_size = shape.vocab_size
        self._requests = 0
        self._admin_port: int | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._warm_up()

    async def live(self) -> int:
        """Start up, serve until SIGTERM or SIGINT, drain, end. Returns the exit code."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        if await self._start_up(stop):
            return 0
        await self._serve(stop)
        return 0

    async def _start_up(self, stop: asyncio.Event) -> bool:
        """Wait as long as a start takes; return True when told to stop meanwhile."""
        settings = self._settings
        measured_s = DEFAULT_STARTUP_S / settings.time_lapse
        wait_s = (measured_s if settings.startup_s is None else settings.startup_s) + settings.faults.slow_start_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), timeout=wait_s)
        return stop.is_set()

    async def _serve(self, stop: asyncio.Event) -> None:
        conversation, runner = self._assemble()
        admin = await self._open_admin(conversation)
        await runner.setup()
        site = web.SockSite(runner, self._listener)
        await site.start()
        engine = asyncio.create_task(conversation.engine.run())
        self._apply(conversation, self._settings.faults)
        host, port = self._listener.getsockname()[:2]
        self._log(f"Application startup complete.\nUvicorn running on http://{host}:{port} (emulated)")
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({engine, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if engine.done():
            engine.result()  # the clockwork broke: die loudly, like an engine core
        await self._shut_down(conversation, site)
        engine.cancel()
        for server in (runner, admin):
            if server is not None:
                await server.cleanup()

    def _assemble(self) -> tuple[Conversation, web.AppRunner]:
        server = assemble(
            self._settings,
            self._setup,
            vocabulary_size=self._vocabulary_size,
            version=self._version,
            on_request=self._count_request,
            log=self._log,
        )
        runner = web.AppRunner(
            server.app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_CLOSING_S,
            keepalive_timeout=_KEEPALIVE_S,
            handle_signals=False,
            max_line_size=_LARGEST_HEAD,
            max_field_size=_LARGEST_HEAD,
        )
        return server.conversation, runner

    async def _open_admin(self, conversation: Conversation) -> web.AppRunner | None:
        if self._settings.admin_port is None:
            return None
        app = admin_app(lambda: conversation.faults, lambda faults: self._apply(conversation, faults))
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._settings.admin_port).start()
        self._admin_port = runner.addresses[0][1]
        self._log(f"Emulator admin on http://127.0.0.1:{self._admin_port}")
        return runner

    def _apply(self, conversation: Conversation, faults: Faults) -> None:
        """Make a set of faults the one in force."""
        loop = asyncio.get_running_loop()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        conversation.faults = faults
        self._requests = 0
        lapse = self._settings.time_lapse
        conversation.engine.change_speed(lapse)
        if faults.slow_factor != 1:
            slow = lapse / faults.slow_factor
            self._timers.append(loop.call_later(faults.slow_from_s, conversation.engine.change_speed, slow))
        if faults.crash_after_s is not None:
            self._timers.append(loop.call_later(faults.crash_after_s, self._crash, faults.crash_as))

    def _count_request(self, conversation: Conversation) -> None:
        self._requests += 1
        limit = conversation.faults.crash_after_requests
        if limit is not None and conversation.faults.crash_as is Crash.GPU_MEMORY:
            conversation.engine.leak(min(1.0, self._requests / limit))
        if limit is not None and self._requests >= limit:
            self._crash(conversation.faults.crash_as)

    def _crash(self, kind: Crash) -> None:
        if kind is Crash.HOST_MEMORY:
            os.kill(os.getpid(), signal.SIGKILL)
        self._log("EngineCore encountered a fatal error.\nTraceback (most recent call last):")
        self._log(cuda_out_of_memory(self._settings.gpu, needed_gib=1.5) if kind is Crash.GPU_MEMORY else _GPU_ERROR)
        os._exit(1)

    async def _shut_down(self, conversation: Conversation, site: web.SockSite) -> None:
        """Take nothing new, let what runs end for as long as `--shutdown-timeout` says, cut the rest."""
        await site.stop()
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._settings.shutdown_timeout_s
        while (waiting := [answer.done for answer in conversation.open_answers]) and loop.time() < deadline_s:
            await asyncio.wait(waiting, timeout=deadline_s - loop.time())
            await asyncio.sleep(0)  # lets the finished ones leave the set
        for answer in tuple(conversation.open_answers):
            answer.cut()
        self._log("Application shutdown complete.")

    def _warm_up(self) -> None:
        """Let the twin compile what it compiles before the first request is timed."""
        engine = TwinEngine(self._setup, self._settings.seed)
        engine.submit(1, prompt_tokens=1, max_tokens=2, now_s=0.0)
        while (event_s := engine.next_event_s) is not None:
            engine.next_step(event_s)

    def _version(self) -> dict[str, object]:
        settings = self._settings
        described = {"gpu": settings.gpu, "gpus": self._setup.gpus, "profile": self._setup.profile.name}
        return {
            "version": load_knobs().version,
            "emulated": True,
            "emulator": {
                **described,
                "time_lapse": settings.time_lapse,
                "seed": settings.seed,
                "admin_port": self._admin_port,
            },
        }
