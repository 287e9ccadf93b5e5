"""vLLM. Names and messages are of 0.26: argparse, vllm/config, vllm/v1/core/kv_cache_utils.py, vllm/v1/worker."""

from __future__ import annotations

from controlplane.domain.engines.driver import Api, Dialect, EngineDriver, LogReading, MetricNames, patterns
from controlplane.domain.engines.start_failure import StartFailure

DRAIN_ON_TERM_S = 30
"""vLLM's `--shutdown-timeout` is 0 by default, which cuts streams at SIGTERM; engines here get this unless they say."""

METRICS = MetricNames(
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    ttft_s="vllm:time_to_first_token_seconds",
    tpot_s="vllm:request_time_per_output_token_seconds",
    kv_usage="vllm:kv_cache_usage_perc",
    preemptions="vllm:num_preemptions_total",
    prompt_tokens="vllm:prompt_tokens_total",
    generation_tokens="vllm:generation_tokens_total",
    model_label="model_name",
)

_FAILURES = patterns(
    (StartFailure.OUT_OF_MEMORY, r"No available memory for the cache blocks"),
    (StartFailure.OUT_OF_MEMORY, r"larger than the (maximum number of tokens|available KV cache memory)"),
    (StartFailure.OUT_OF_MEMORY, r"KV cache is needed, which is larger than"),
    (StartFailure.OUT_OF_MEMORY, r"Free memory on device .* is less than desired GPU memory utilization"),
    (StartFailure.REFUSED_FLAG, r"validation errors? for \w*Config"),
    (StartFailure.REFUSED_FLAG, r"must be divisible by tensor parallel size|is not divisible by"),
    (StartFailure.REFUSED_FLAG, r"(unknown|unsupported|invalid) quantization|quantization method .* not supported"),
    (StartFailure.REFUSED_FLAG, r"kv[_-]cache[_-]dtype.* (not supported|invalid|unsupported)"),
    (StartFailure.REFUSED_FLAG, r"max_num_batched_tokens .* (smaller than|greater than or equal to)"),
    (StartFailure.REFUSED_FLAG, r"User-specified max_model_len .* is greater than the derived"),
    (StartFailure.REFUSED_FLAG, r"--enable-auto-tool-choice requires --tool-call-parser"),
    (StartFailure.REFUSED_FLAG, r"LoRA rank \d+ is greater than max_lora_rank|LoRA is not enabled"),
    (StartFailure.REFUSED_FLAG, r"Loading lora .* failed|No adapter found for|doesn't contain tensors"),
    (StartFailure.REFUSED_FLAG, r"World size \(\d+\) is larger than the number of available GPUs"),
)

LOG = LogReading(
    prefix=r"^(\([\w\s=.-]+\)\s*)?((INFO|WARNING|ERROR|CRITICAL)\s+[\d-]+\s+[\d:.,]+\s+(\[[^\]]*\]\s*)?)?",
    # `host:12:34 [0] NCCL WARN …` is none
    survived=r"^(\([\w\s=.-]+\)\s*)?(DEBUG|INFO|WARN(ING)?)\b",
    # what the other processes of an engine say when one of them has met its end
    consequence=r"Engine core initialization failed|EngineDeadError|EngineGenerateError"
    r"|See (root cause|stack trace) above"
    r"|Worker\w* (proc|process|initialization|failed)|died unexpectedly|exited unexpectedly|ChildFailedError"
    r"|(NCCL|RCCL) error|nccl\w+Error:|DistBackendError|DistNetworkError"
    r"|Connection (reset|closed|refused|aborted)|ConnectionResetError|Broken ?pipe|EOFError|ZMQError"
    r"|CancelledError|KeyboardInterrupt|SystemExit|cancelled",
    free_memory_gib=r"Free memory on device \S+ \(([\d.]+)/([\d.]+) GiB\)",
    failures=_FAILURES,
)

VLLM = EngineDriver(
    title="vLLM",
    command=("vllm", "serve", "{model}", "--host", "{host}", "--port", "{port}", "{args}"),
    install="`pip install fleetune[vllm]`, or engine.command with the path of another environment's vllm",
    name_flag="served-model-name",
    always={"shutdown-timeout": DRAIN_ON_TERM_S},
    drain_flag="shutdown-timeout",
    key_flag="api-key",
    key_variable="VLLM_API_KEY",
    env={
        "SPT_NOENV": "1",  # keeps vLLM's process titles from overwriting what its processes are found by
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",  # a public host would send it where no client may
    },
    metrics=METRICS,
    log=LOG,
    dialect=Dialect(apis=(Api.COMPLETIONS, Api.CHAT, Api.EMBEDDINGS), prompt_logprobs=True, cache_salt=True),
    flag_files="vllm",
    has_twin=True,
    compiles_at_first_use=True,
    start_s=120.0,  # 65 to 190 s on an H200
)
