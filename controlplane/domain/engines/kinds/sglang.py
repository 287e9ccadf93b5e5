"""SGLang. Names and messages are of 0.5.23: `srt/arg_groups/fields`, `srt/observability`, `srt/utils/network.py`.

Read, not run: no real SGLang was started with this driver yet.
"""

from __future__ import annotations

from controlplane.domain.engines.driver import (
    Api,
    Dialect,
    EngineDriver,
    FlagStyle,
    LogReading,
    MetricNames,
    patterns,
)
from controlplane.domain.engines.owned import HALF_AN_ENGINE, HTTP_ONLY, UNDER_THE_ROOT
from controlplane.domain.engines.start_failure import StartFailure

_ONE_HOST = "a replica is one process group on one host"

_FAILURES = patterns(
    (StartFailure.OUT_OF_MEMORY, r"Not enough memory"),
    (StartFailure.OUT_OF_MEMORY, r"(Prefill|Decode) out of memory"),
    (StartFailure.REFUSED_FLAG, r"invalid choice: "),
    (StartFailure.PORT, r"\bport at \d+ is not available"),
)

SGLANG = EngineDriver(
    title="SGLang",
    command=("sglang", "serve", "--model-path", "{model}", "--host", "{host}", "--port", "{port}", "{args}"),
    install="`pip install sglang` into this environment, or engine.command with `python -m sglang.launch_server …`",
    flags=FlagStyle(),
    name_flag="served-model-name",
    owned={
        "config": "its flags would not be seen here: write them into engine.flags",
        "dist-init-addr": _ONE_HOST,
        "nnodes": _ONE_HOST,
        "node-rank": _ONE_HOST,
        "disaggregation-mode": HALF_AN_ENGINE,
        "fastapi-root-path": UNDER_THE_ROOT,
        "grpc-mode": HTTP_ONLY,
    },
    always={"enable-metrics": True},
    key_flag="api-key",
    metrics=MetricNames(
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        ttft_s="sglang:time_to_first_token_seconds",
        tpot_s="sglang:request_time_per_output_token_seconds",
        kv_usage="sglang:token_usage",
        preemptions="sglang:num_retracted_requests_total",
        prompt_tokens="sglang:prompt_tokens_total",
        generation_tokens="sglang:generation_tokens_total",
        model_label="model_name",
    ),
    log=LogReading(
        # `[2026-01-01 10:00:00 TP0] …`
        prefix=r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\]]*\]\s*",
        failures=_FAILURES,
    ),
    dialect=Dialect(apis=(Api.COMPLETIONS, Api.CHAT, Api.EMBEDDINGS)),
    flag_files="sglang",
    compiles_at_first_use=True,
    start_s=120.0,
)
