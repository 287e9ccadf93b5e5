"""What the same knob is called by different engines: a flag of another engine is refused with the right word for it.

From the engines' own documentation of their command lines (docs/engines.md). Only flags that belong to some of these
engines and not to others stand here; of all others an engine's start decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.domain.engines.drivers import driver_of
from controlplane.domain.engines.engine import EngineConfig, EngineKind

_V, _S, _T = EngineKind.VLLM, EngineKind.SGLANG, EngineKind.TENSORRT_LLM
_G, _L, _E = EngineKind.TGI, EngineKind.LLAMA_CPP, EngineKind.EMBED

Words = Mapping[EngineKind, Sequence[str]]

KNOBS: Mapping[str, Words] = {
    "requests in a batch": {
        _V: ["max-num-seqs"],
        _S: ["max-running-requests"],
        _T: ["max-batch-size"],
        _G: ["max-batch-size"],
        _L: ["parallel"],
        _E: ["max-batch-size"],
    },
    "tokens of one step": {
        _V: ["max-num-batched-tokens"],
        _S: ["chunked-prefill-size", "max-prefill-tokens"],
        _T: ["max-num-tokens"],
        _G: ["max-batch-prefill-tokens"],
        _L: ["batch-size", "ubatch-size"],
    },
    "longest sequence": {
        _V: ["max-model-len"],
        _S: ["context-length"],
        _T: ["max-seq-len"],
        _G: ["max-total-tokens"],
        _L: ["ctx-size"],
    },
    "share of GPU memory": {
        _V: ["gpu-memory-utilization"],
        _S: ["mem-fraction-static"],
        _T: ["free-gpu-memory-fraction", "kv-cache-free-gpu-memory-fraction"],
        _G: ["cuda-memory-fraction"],
    },
    "precision of weights": {_V: ["quantization"], _S: ["quantization"], _G: ["quantize"]},
    "precision of the KV cache": {
        _V: ["kv-cache-dtype"],
        _S: ["kv-cache-dtype"],
        _G: ["kv-cache-dtype"],
        _L: ["cache-type-k", "cache-type-v"],
    },
    "prefix cache": {
        _V: ["enable-prefix-caching"],
        _S: ["disable-radix-cache"],
        _L: ["cache-prompt"],
    },
    "chunked prefill": {_V: ["enable-chunked-prefill"], _T: ["enable-chunked-prefill"]},
    "speculation": {_V: ["speculative-config"], _S: ["speculative-algorithm"], _G: ["speculate"], _L: ["model-draft"]},
    "layers on the GPU": {_L: ["n-gpu-layers"]},
    "processor threads": {_L: ["threads", "threads-batch"], _E: ["threads"]},
    "wait for a batch to fill": {_E: ["max-wait-ms"]},
    "time to drain at SIGTERM": {_V: ["shutdown-timeout"], _E: ["shutdown-timeout"]},
}


def foreign_flags(config: EngineConfig, kind: EngineKind) -> tuple[str, ...]:
    """Return what is wrong with flags that other engines have and this kind has not, one phrase each."""
    kind = _spoken(kind)
    own = {flag for words in KNOBS.values() for flag in words.get(kind, ())}
    return tuple(phrase for flag in config.flags if flag not in own if (phrase := _foreign(flag, kind)) is not None)


def words_of(knob: str, kind: EngineKind) -> Sequence[str]:
    """Return the flags by which a kind of engine says a knob; none where it has no such."""
    return KNOBS[knob].get(_spoken(kind), ())


def _spoken(kind: EngineKind) -> EngineKind:
    """Return the kind whose flags are spoken: an emulator's are vLLM's."""
    return _V if kind is EngineKind.EMULATOR else kind


def _foreign(flag: str, kind: EngineKind) -> str | None:
    for words in KNOBS.values():
        owners = [driver_of(each).title for each, flags in words.items() if flag in flags]
        if owners:
            mine = " or ".join(f"--{word}" for word in words.get(kind, ()))
            hint = f"{driver_of(kind).title} calls it {mine}" if mine else f"{driver_of(kind).title} has no such flag"
            return f"--{flag} is a flag of {' and '.join(owners)}: {hint}"
    return None
