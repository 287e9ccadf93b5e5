"""Hugging Face's Text Generation Inference. Names are of 3.3's documentation (launcher, metrics). Read, not run.

It serves one model whatever `model` says, so there is no flag for the name; it forces no length of answers, and its
metrics name no model and count no tokens by themselves: the sums of two histograms do.
"""

from __future__ import annotations

from controlplane.domain.engines.driver import (
    Dialect,
    EngineDriver,
    FlagStyle,
    LogReading,
    MetricNames,
    Readiness,
    patterns,
)
from controlplane.domain.engines.start_failure import StartFailure

_FAILURES = patterns(
    (StartFailure.OUT_OF_MEMORY, r"Not enough memory to handle"),
    (StartFailure.REFUSED_FLAG, r"^error: (unexpected argument|invalid value|the argument)"),
    (StartFailure.REFUSED_FLAG, r"`max_(input_tokens|total_tokens|batch_\w+)` must be"),
)

TGI = EngineDriver(
    title="TGI",
    command=(
        "text-generation-launcher",
        *("--model-id", "{model}", "--hostname", "{host}", "--port", "{port}", "{args}"),
    ),
    install="its container image, or engine.command with the path of a built `text-generation-launcher`",
    flags=FlagStyle(negated=False, names={"tensor-parallel-size": "num-shard"}),
    owned={
        "env": "it prints its environment",
        "json-output": "a log in JSON does not tell why a start failed",
        "ngrok": "it would open the engine to the internet",
        "sharded": "tensor-parallel-size says how many GPUs it gets",
    },
    key_flag="api-key",
    key_variable="API_KEY",
    readiness=Readiness(request={"prompt": "a", "max_tokens": 1}),
    metrics=MetricNames(
        running="tgi_batch_current_size",
        waiting="tgi_queue_size",
        tpot_s="tgi_request_mean_time_per_token_duration",
        prompt_tokens="tgi_request_input_length_sum",
        generation_tokens="tgi_request_generated_tokens_sum",
    ),
    log=LogReading(
        # `2026-01-01T10:00:00.000000Z ERROR text_generation_launcher: …`
        prefix=r"^\d{4}-\d\d-\d\dT[\d:.]+Z\s+(ERROR|WARN|INFO|DEBUG)\s+[\w:]+(\{[^}]*\})?:\s*",
        survived=r"^\d{4}-\d\d-\d\dT[\d:.]+Z\s+(WARN|INFO|DEBUG)\b",
        consequence=r"Shard (process|\d+)|Webserver Crashed|ShardCannotStart|ShardFailed",
        failures=_FAILURES,
    ),
    dialect=Dialect(token_ids=False, ignore_eos=False),
    flag_files="tgi",
    start_s=120.0,
)
