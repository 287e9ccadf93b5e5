"""llama.cpp's `llama-server` (GGUF, on CPU or GPU). Names and messages are of build 10434, which was run (on CPU).

It counts no share of its KV cache and preempts nothing: a request that finds no slot waits.
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
from controlplane.domain.engines.owned import UNDER_THE_ROOT
from controlplane.domain.engines.start_failure import StartFailure

_MODEL = "it is model.path"
_ITS_LOG = "its log tells why a start failed"
_PLAIN = "Fleetune speaks to engines in plain HTTP on its own hosts"
_ROUTER = "one process serves one model here"

_FAILURES = patterns(
    (StartFailure.OUT_OF_MEMORY, r"failed to allocate .*buffer|unable to allocate .*buffer"),
    (StartFailure.REFUSED_FLAG, r"^error: invalid (argument|value)"),
    (StartFailure.REFUSED_FLAG, r"^error while handling (argument|environment variable)"),
    (StartFailure.PORT, r"couldn't bind HTTP server socket"),
    (StartFailure.OTHER, r"failed to open GGUF file"),
)

LLAMA_CPP = EngineDriver(
    title="llama.cpp",
    command=("llama-server", "--model", "{model}", "--host", "{host}", "--port", "{port}", "{args}"),
    install="a build of llama.cpp on the PATH, or engine.command with the path of its `llama-server`",
    flags=FlagStyle(joined=False),
    name_flag="alias",
    owned={
        "api-prefix": UNDER_THE_ROOT,
        "docker-repo": _MODEL,
        "hf-file": _MODEL,
        "hf-repo": _MODEL,
        "model-url": _MODEL,
        "log-disable": _ITS_LOG,
        "log-file": _ITS_LOG,
        "log-prompts-dir": "it would keep what users ask",
        "models-dir": _ROUTER,
        "models-preset": _ROUTER,
        "ssl-cert-file": _PLAIN,
        "ssl-key-file": _PLAIN,
    },
    always={"metrics": True},
    key_flag="api-key",
    key_variable="LLAMA_API_KEY",
    metrics=MetricNames(
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        prompt_tokens="llamacpp:prompt_tokens_total",
        generation_tokens="llamacpp:tokens_predicted_total",
    ),
    log=LogReading(
        # `0.00.038.703 E srv    load_model: …`
        prefix=r"^\d+\.\d\d\.\d{3}\.\d{3} [DIWE] ",
        survived=r"^\d+\.\d\d\.\d{3}\.\d{3} [DIW] ",
        failures=_FAILURES,
    ),
    dialect=Dialect(apis=(Api.COMPLETIONS, Api.CHAT, Api.EMBEDDINGS)),
    flag_files="llama.cpp",
    start_s=30.0,
)
