"""Flags of `vllm serve` as people write them, and the one form they are kept in. Pure.

What vLLM's own configuration file and command line take: long names in either spelling, short names (`tp`, `O3`),
`no-x`, lists, mappings, dotted parts of JSON flags (`compilation-config.mode`), human integers (`32k`, `8K`, `-1`). A
test holds the names here against the flag files that ship.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping

FlagValue = bool | int | float | str
"""Value of one flag: True is `--flag`, False is `--no-flag`, anything else `--flag=value`. Several values are words as
a shell reads them."""

ALIASES: Mapping[str, str] = {
    "ac": "attention-config",
    "asc": "api-server-count",
    "cc": "compilation-config",
    "dc": "diffusion-config",
    "dcp": "decode-context-parallel-size",
    "device-memory-utilization": "gpu-memory-utilization",
    "dp": "data-parallel-size",
    "dpa": "data-parallel-address",
    "dpb": "data-parallel-backend",
    "dpe": "data-parallel-external-lb",
    "dph": "data-parallel-hybrid-lb",
    "dpl": "data-parallel-size-local",
    "dpm": "data-parallel-multi-port-external-lb",
    "dpn": "data-parallel-rank",
    "dpp": "data-parallel-rpc-port",
    "dpr": "data-parallel-start-rank",
    "ep": "enable-expert-parallel",
    "n": "nnodes",
    "O": "optimization-level",
    "pcp": "prefill-context-parallel-size",
    "pp": "pipeline-parallel-size",
    "q": "quantization",
    "r": "node-rank",
    "sc": "speculative-config",
    "tp": "tensor-parallel-size",
}
_ELSEWHERE = {
    "cp-size": "context-parallel-size",
    "dcp-size": "decode-context-parallel-size",
    "dp-size": "data-parallel-size",
    "num-shard": "tensor-parallel-size",
    "pp-size": "pipeline-parallel-size",
    "tp-size": "tensor-parallel-size",
}
"""What other engines call flags that decide how many GPUs a replica takes: one word for them here."""

_SEVERAL_OF_VLLM = frozenset(
    {
        "allowed-media-domains",
        "api-key",
        "collect-detailed-traces",
        "cpu-offload-params",
        "cudagraph-capture-sizes",
        "ignore-patterns",
        "kv-cache-dtype-skip-layers",
        "logits-processors",
        "lora-modules",
        "lora-target-modules",
        "middleware",
        "numa-bind-cpus",
        "numa-bind-nodes",
        "offload-params",
        "served-model-name",
        "sleep-preserve-parameter-names",
    }
)
_SEVERAL_OF_SGLANG = frozenset(
    {
        "bucket-e2e-request-latency",
        "bucket-inter-token-latency",
        "bucket-time-to-first-token",
        "cuda-graph-bs-decode",
        "cuda-graph-bs-prefill",
        "custom-weight-loader",
        "debug-tensor-dump-layers",
        "encoder-register-urls",
        "encoder-urls",
        "flashinfer-autotune-skip-ops",
        "gc-threshold",
        "generation-tokens-buckets",
        "log-requests-target",
        "numa-node",
        "prefill-delayer-forward-passes-buckets",
        "prefill-delayer-wait-seconds-buckets",
        "prompt-tokens-buckets",
        "return-aux-hidden-state-layer-ids",
        "tokenizer-metrics-allowed-custom-labels",
        "uvicorn-access-log-exclude-prefixes",
    }
)
SEVERAL = _SEVERAL_OF_VLLM | _SEVERAL_OF_SGLANG
"""Flags that take several values, each a word of its own (argparse's `nargs="+"`)."""

HUMAN = frozenset(
    {
        "kv-cache-memory-bytes",
        "max-model-len",
        "max-num-batched-tokens",
        "max-num-scheduled-tokens",
        "safetensors-prefetch-block-size",
    }
)
"""Flags that take 32k as well as 32000."""

_SCALES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_PLAIN_WORD = re.compile(r"""[^\s'"\\]+""")
_OPTIMIZATION = re.compile(r"O(\d+)")


def canonical_flags(flags: Mapping[str, object]) -> dict[str, FlagValue]:
    """Return flags by their long names, sorted, each value in its one form.

    Raises ValueError, which says what is wrong, when one is written twice or has a value that no flag takes.
    """
    found: dict[str, FlagValue] = {}
    written: dict[str, str] = {}
    for name, value in flags.items():
        flag, kept = canonical(name, value)
        if flag in found:
            raise ValueError(f"--{flag} is given twice, as {written[flag]} and as {name}")
        found[flag], written[flag] = kept, name
    return dict(sorted(found.items()))


def canonical(name: str, value: object) -> tuple[str, FlagValue]:
    """Return one flag's long name and its value in its one form. Raises ValueError."""
    bare = name.strip().lstrip("-")
    if (level := _OPTIMIZATION.fullmatch(bare)) is not None and value is True:
        return "optimization-level", int(level[1])
    flag = canonical_flag(name)
    if flag.startswith("no-") and isinstance(value, bool):
        return flag.removeprefix("no-"), not value
    return flag, _value(flag, value)


def canonical_flag(name: str) -> str:
    """Return a flag's long name without leading dashes and with dashes inside; parts after a dot stay as they are."""
    base, dot, part = dashed(name).partition(".")
    return f"{ALIASES.get(base) or _ELSEWHERE.get(base, base)}{dot}{part}"


def dashed(name: str) -> str:
    """Return a name without leading dashes and with dashes inside, short names as they are."""
    base, dot, part = name.strip().lstrip("-").partition(".")
    return f"{base.replace('_', '-')}{dot}{part}"


def human_int(text: str) -> int:
    """Read vLLM's human-readable integers: 8k = 8,000, 8K = 8,192, 25.6k = 25,600. Raises ValueError."""
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)([kKmMgGtT]?)", text)
    if match is None:
        raise ValueError(text)
    number, scale = match.groups()
    if scale.isupper() and "." in number:
        raise ValueError(text)
    return int(float(number) * _SCALES[scale]) if scale else int(number)


def number_or_text(text: str) -> int | float | str:
    """Return a whole or a decimal number where the text is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def argument(name: str, value: FlagValue) -> tuple[str, ...]:
    """Return one flag as words of a command line."""
    if "." in name:  # a part of a JSON flag is JSON itself
        return (f"--{name}={json.dumps(value) if isinstance(value, bool) else value}",)
    if value is True:
        return (f"--{name}",)
    if value is False:
        return (f"--no-{name}",)
    if name in SEVERAL:
        return (f"--{name}", *shlex.split(str(value)))
    if name == "config":  # vLLM looks for the word `--config` alone
        return (f"--{name}", str(value))
    return (f"--{name}={value}",)


def _value(flag: str, value: object) -> FlagValue:
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, list | tuple):
        return joined(_word(flag, each) for each in value) if flag in SEVERAL else json.dumps(list(value))
    if isinstance(value, str) and flag in SEVERAL:
        return joined(_words(flag, value))
    if isinstance(value, str) and flag in HUMAN:
        return _whole(value)
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"--{flag} has no value" if value is None else f"--{flag}={value!r} is no value of a flag")


def joined(words: Iterable[str]) -> str:
    """Return words as one text that `shlex.split` takes apart again, quoted only where it must be."""
    return " ".join(word if _PLAIN_WORD.fullmatch(word) else shlex.quote(word) for word in words)


def _whole(text: str) -> int | str:
    try:
        return human_int(text.strip())
    except ValueError:
        return text  # `auto`; anything else is refused where the types of flags are known


def _word(flag: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"--{flag} holds {value!r}, which is neither text nor a number")
    return str(value)


def _words(flag: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"--{flag}={text} is not a list of words: {error}") from error
