"""TensorRT-LLM's `trtllm-serve`. Names are of 1.3's development: `commands/serve.py`, `metrics/collector.py`.

Read, not run. Its gauges are only there when its own options file (`--config`) says `enable_iter_perf_stats: true`, its
histograms when it says `return_perf_metrics: true`; without the gauges a drain waits out its time.
"""

from __future__ import annotations

from controlplane.domain.engines.driver import EngineDriver, FlagStyle, LogReading, MetricNames, patterns
from controlplane.domain.engines.owned import HALF_AN_ENGINE, HTTP_ONLY
from controlplane.domain.engines.start_failure import StartFailure

_FAILURES = patterns(
    (StartFailure.REFUSED_FLAG, r"^Error: (No such option|Invalid value|Option '.*' (requires|does not take))"),
    (StartFailure.PORT, r"Failed to bind socket to "),
)

TENSORRT_LLM = EngineDriver(
    title="TensorRT-LLM",
    command=("trtllm-serve", "{model}", "--host", "{host}", "--port", "{port}", "{args}"),
    install="`pip install tensorrt-llm` into this environment, or engine.command with the path of another's",
    flags=FlagStyle(
        underscores=True,
        negated=False,
        names={
            "tensor-parallel-size": "tp-size",
            "pipeline-parallel-size": "pp-size",
            "context-parallel-size": "cp-size",
        },
    ),
    name_flag="served-model-name",
    owned={
        "disagg-cluster-uri": HALF_AN_ENGINE,
        "metadata-server-config-file": HALF_AN_ENGINE,
        "server-role": HALF_AN_ENGINE,
        "grpc": HTTP_ONLY,
    },
    metrics=MetricNames(
        path="/prometheus/metrics",
        running="trtllm_num_requests_running",
        waiting="trtllm_num_requests_waiting",
        ttft_s="trtllm_time_to_first_token_seconds",
        tpot_s="trtllm_time_per_output_token_seconds",
        kv_usage="trtllm_kv_cache_utilization",
        prompt_tokens="trtllm_prompt_tokens_total",
        generation_tokens="trtllm_generation_tokens_total",
        model_label="model_name",
    ),
    log=LogReading(
        prefix=r"^(\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\]\s*)?(\[TRT-LLM\]\s*)?(\[[EWI]\]\s*)?",
        survived=r"^(\[[^\]]*\]\s*)*\[[WI]\]",
        failures=_FAILURES,
    ),
    flag_files="tensorrt-llm",
    start_s=180.0,
)
