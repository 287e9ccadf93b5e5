"""SGLang, by its documentation (server arguments, production metrics); not yet run against the real engine."""

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

SGLANG = EngineDriver(
    title="SGLang",
    command=("sglang", "serve", "--model-path", "{model}", "--host", "{host}", "--port", "{port}", "{args}"),
    install="`pip install sglang` into this environment, or engine.command with `python -m sglang.launch_server …`",
    flags=FlagStyle(negated=False),
    name_flag="served-model-name",
    always={"enable-metrics": True},
    key_flag="api-key",
    metrics=MetricNames(
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        ttft_s="sglang:time_to_first_token_seconds",
        tpot_s="sglang:inter_token_latency_seconds",
        kv_usage="sglang:token_usage",
        model_label="model_name",
    ),
    log=LogReading(
        failures=(
            FailurePattern(failure=StartFailure.OUT_OF_MEMORY, pattern=r"Not enough memory"),
            FailurePattern(failure=StartFailure.REFUSED_FLAG, pattern=r"invalid choice: "),
        )
    ),
    dialect=Dialect(apis=(Api.COMPLETIONS, Api.CHAT, Api.EMBEDDINGS)),
    start_s=120.0,
)
