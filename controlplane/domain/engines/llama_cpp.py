"""llama.cpp's `llama-server` (GGUF, on CPU or GPU), by its documentation; not yet run against the real engine."""

from __future__ import annotations

from controlplane.domain.engines.driver import (
    Api,
    Dialect,
    EngineDriver,
    FailurePattern,
    FlagStyle,
    LogReading,
    MetricNames,
)
from controlplane.domain.engines.start_failure import StartFailure

LLAMA_CPP = EngineDriver(
    title="llama.cpp",
    command=("llama-server", "--model", "{model}", "--host", "{host}", "--port", "{port}", "{args}"),
    install="a build of llama.cpp on the PATH, or engine.command with the path of its `llama-server`",
    flags=FlagStyle(joined=False),
    name_flag="alias",
    always={"metrics": True},
    key_flag="api-key",
    key_variable="LLAMA_API_KEY",
    metrics=MetricNames(running="llamacpp:requests_processing", waiting="llamacpp:requests_deferred"),
    log=LogReading(
        failures=(
            FailurePattern(failure=StartFailure.OUT_OF_MEMORY, pattern=r"failed to allocate .*buffer"),
            FailurePattern(
                failure=StartFailure.REFUSED_FLAG,
                pattern=r"^error: (invalid argument|invalid value|while handling argument)",
            ),
        )
    ),
    dialect=Dialect(apis=(Api.COMPLETIONS, Api.CHAT, Api.EMBEDDINGS)),
    start_s=30.0,
)
