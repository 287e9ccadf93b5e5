"""TensorRT-LLM's `trtllm-serve`, by its documentation; not yet run against the real engine.

It tells no gauge of running or waiting requests, so a drain waits out its time; its histograms are only there with
`return_perf_metrics` in its own options file.
"""

from __future__ import annotations

from controlplane.domain.engines.driver import EngineDriver, FailurePattern, FlagStyle, LogReading, MetricNames
from controlplane.domain.engines.start_failure import StartFailure

TENSORRT_LLM = EngineDriver(
    title="TensorRT-LLM",
    command=("trtllm-serve", "{model}", "--host", "{host}", "--port", "{port}", "{args}"),
    install="`pip install tensorrt-llm` into this environment, or engine.command with the path of another's",
    flags=FlagStyle(
        underscores=True,
        negated=False,
        names={"tensor-parallel-size": "tp-size", "pipeline-parallel-size": "pp-size"},
    ),
    name_flag="served-model-name",
    metrics=MetricNames(
        path="/prometheus/metrics",
        ttft_s="trtllm_time_to_first_token_seconds",
        tpot_s="trtllm_time_per_output_token_seconds",
        model_label="model_name",
    ),
    log=LogReading(
        failures=(FailurePattern(failure=StartFailure.REFUSED_FLAG, pattern=r"^Error: (No such option|Invalid value)"),)
    ),
    start_s=180.0,
)
