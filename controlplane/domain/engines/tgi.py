"""Hugging Face's Text Generation Inference, by its documentation; not yet run against the real engine.

It serves one model whatever `model` says, so there is no flag for the name; it forces no length of answers.
"""

from __future__ import annotations

from controlplane.domain.engines.driver import (
    Dialect,
    EngineDriver,
    FailurePattern,
    FlagStyle,
    LogReading,
    MetricNames,
    Readiness,
)
from controlplane.domain.engines.start_failure import StartFailure

TGI = EngineDriver(
    title="TGI",
    command=(
        "text-generation-launcher",
        *("--model-id", "{model}", "--hostname", "{host}", "--port", "{port}", "{args}"),
    ),
    install="its container image, or engine.command with the path of a built `text-generation-launcher`",
    flags=FlagStyle(negated=False, names={"tensor-parallel-size": "num-shard"}),
    key_flag="api-key",
    key_variable="API_KEY",
    readiness=Readiness(request={"prompt": "a", "max_tokens": 1}),
    metrics=MetricNames(running="tgi_batch_current_size", waiting="tgi_queue_size"),
    log=LogReading(
        failures=(
            FailurePattern(failure=StartFailure.OUT_OF_MEMORY, pattern=r"Not enough memory to handle"),
            FailurePattern(
                failure=StartFailure.REFUSED_FLAG, pattern=r"^error: (unexpected argument|invalid value|the argument)"
            ),
        )
    ),
    dialect=Dialect(token_ids=False, ignore_eos=False),
    start_s=120.0,
)
