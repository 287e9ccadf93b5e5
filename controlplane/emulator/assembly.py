"""One emulated engine put together: twin, clocks, tokens, adapters, metrics and the routes in front of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web

from controlplane.emulator.adapter_routes import adapter_routes
from controlplane.emulator.adapters import Adapters, LoraOptions
from controlplane.emulator.boot import StartRefused
from controlplane.emulator.card import card_of
from controlplane.emulator.clock import LapsedClock
from controlplane.emulator.errors import ApiError
from controlplane.emulator.live import LiveEngine
from controlplane.emulator.metrics import EngineMetrics
from controlplane.emulator.server import Routes
from controlplane.emulator.service import Conversation, Model
from controlplane.emulator.settings import EmulatorSettings
from controlplane.emulator.sleeping import Sleeper, sleep_routes
from controlplane.emulator.tokens import OutputWords, load_tokenizer
from tuner.twin.engine import TwinEngine
from tuner.twin.first_use import FirstUse
from tuner.twin.setup import COPY_GIB_PER_S, EngineSetup


class Server(NamedTuple):
    """`app` answers on the public port; somebody has to run `conversation.engine`."""

    conversation: Conversation
    app: web.Application


def assemble(
    settings: EmulatorSettings,
    setup: EngineSetup,
    *,
    vocabulary_size: int,
    version: Callable[[], dict[str, Any]],
    on_request: Callable[[Conversation], None],
    log: Callable[[str], None],
) -> Server:
    """Put an engine together, within the event loop that is to run it. Raises StartRefused for a bad adapter."""
    metrics = EngineMetrics(
        settings.served_names[0],
        setup.max_model_len,
        _info(settings, setup),
        _cache(settings, setup),
        card_of(settings.gpu, setup, sleeps=_moves(settings)),
    )
    adapters = _adapters(settings)
    conversation = Conversation(
        _model(settings, setup, vocabulary_size), adapters, _engine(settings, setup, metrics), seed=settings.seed
    )
    routes = Routes(
        conversation,
        metrics,
        settings,
        version=version,
        on_request=lambda: on_request(conversation),
        more=[
            *(adapter_routes(adapters, log) if settings.runtime_adapters else ()),
            *(sleep_routes(_sleeper(settings, setup, conversation, log)) if settings.dev_mode else ()),
        ],
    )
    return Server(conversation, routes.app())


def _engine(settings: EmulatorSettings, setup: EngineSetup, metrics: EngineMetrics) -> LiveEngine:
    wall = asyncio.get_running_loop().time
    return LiveEngine(
        TwinEngine(setup, settings.seed, first_use=FirstUse(settings.first_use_s)),
        wall=wall,
        own=LapsedClock(wall, settings.time_lapse),
        outside=LapsedClock(wall, settings.time_lapse),
        metrics=metrics,
    )


def _model(settings: EmulatorSettings, setup: EngineSetup, vocabulary_size: int) -> Model:
    tokenizer = load_tokenizer(settings.model, vocabulary_size)
    words = OutputWords(tokenizer, settings.seed)
    flags = settings.config.flags
    return Model(
        settings.served_names,
        settings.model,
        int(time.time()),
        setup,
        tokenizer,
        words,
        calls_tools=flags.get("enable-auto-tool-choice") is True,
        most_logprobs=int(flags.get("max-logprobs", 20)),
    )


def _adapters(settings: EmulatorSettings) -> Adapters:
    """Load `--lora-modules`; what keeps one from being loaded keeps vLLM from starting."""
    adapters = Adapters(settings.served_names, LoraOptions.from_flags(settings.config.flags))
    for spec in settings.adapters:
        try:
            adapters.load(spec)
        except ApiError as error:
            raise StartRefused(f"ValueError: {error}") from error
    return adapters


def _sleeper(
    settings: EmulatorSettings, setup: EngineSetup, conversation: Conversation, log: Callable[[str], None]
) -> Sleeper:
    """Without `--enable-sleep-mode` the engine pauses, but its memory stays where it is."""
    copy_s = setup.memory.weights_gib / COPY_GIB_PER_S if _moves(settings) else 0.0
    return Sleeper(
        conversation, copy_s=copy_s, log=log, wait=lambda seconds: asyncio.sleep(seconds / settings.time_lapse)
    )


def _moves(settings: EmulatorSettings) -> bool:
    return settings.config.flags.get("enable-sleep-mode") is True


def _info(settings: EmulatorSettings, setup: EngineSetup) -> dict[str, str]:
    return {"gpu": settings.gpu, "profile": setup.profile.name, "time_lapse": f"{settings.time_lapse:g}"}


def _cache(settings: EmulatorSettings, setup: EngineSetup) -> dict[str, str]:
    flags = settings.config.flags
    return {
        "block_size": str(setup.block_size),
        "num_gpu_blocks": str(setup.kv_blocks),
        "cache_dtype": str(flags.get("kv-cache-dtype", "auto")),
        "gpu_memory_utilization": str(flags.get("gpu-memory-utilization", 0.92)),
        "enable_prefix_caching": str(setup.prefix_caching),
    }
