"""What an engine is started with: its kind, its model and the flags of one replica."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from controlplane.domain.base import Value
from controlplane.domain.engines.flags import FlagValue, argument, canonical_flags
from controlplane.domain.errors import InvalidInput


def _canonical(flags: Any) -> Any:
    return canonical_flags(flags) if isinstance(flags, Mapping) else flags


Flags = Annotated[Mapping[str, FlagValue], BeforeValidator(_canonical)]
"""Flags however a person wrote them; kept in one form (`domain/engines/flags.py`)."""


ENGINE = "engine"
"""Stands among the flags of a configuration that an alternative of the service serves: its name. No engine gets it."""


class EngineKind(StrEnum):
    VLLM = "vllm"
    EMULATOR = "emulator"
    SGLANG = "sglang"
    TENSORRT_LLM = "tensorrt-llm"
    TGI = "tgi"
    LLAMA_CPP = "llama.cpp"
    EMBED = "embed"  # our own, for embeddings
    COMMAND = "command"  # any other: `engine.mapping` says how it is driven


class EngineConfig(Value):
    """The flags of one replica, by their long names without dashes, e.g. `{"max-num-seqs": 256}`.

    Two configs with the same flags are equal and have the same hash, however the flags were written
    (`max_num_seqs` and `--max-num-seqs` become `max-num-seqs`).
    """

    flags: Flags = Field(default_factory=dict)

    @property
    def alternative(self) -> str | None:
        """The alternative that serves these flags, None for the service's own engine."""
        name = self.flags.get(ENGINE)
        return None if name is None else str(name)

    def without_alternative(self) -> EngineConfig:
        """Return what an engine is given."""
        return EngineConfig(flags={name: value for name, value in self.flags.items() if name != ENGINE})

    @property
    def tensor_parallel_size(self) -> int:
        return self._size("tensor")

    @property
    def pipeline_parallel_size(self) -> int:
        return self._size("pipeline")

    @property
    def gpus_per_replica(self) -> int:
        """GPUs of one engine process: every kind of parallelism that has GPUs of its own, data parallelism too.

        llama.cpp has no such sizes: it takes a GPU for each share of `tensor-split`.
        """
        shares = str(self.flags.get("tensor-split", "1")).count(",") + 1
        sizes = (self._size(kind) for kind in self._with_gpus_of_their_own)
        return self.tensor_parallel_size * self.pipeline_parallel_size * shares * math.prod(sizes)

    def _size(self, kind: str) -> int:
        """Raises InvalidInput for a size that is none: no number of GPUs follows from it."""
        name = f"{kind}-parallel-size"
        value = self.flags.get(name, 1)
        if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
            raise InvalidInput(f"{name} is {value!r}", allowed="a whole number, 1 or more")
        return int(value)

    @property
    def _with_gpus_of_their_own(self) -> tuple[str, ...]:
        """SGLang's attention may be data-parallel within the tensor-parallel GPUs."""
        others = ("prefill-context", "context")
        return others if self.flags.get("enable-dp-attention") is True else ("data", *others)

    def with_flags(self, changes: Mapping[str, FlagValue]) -> EngineConfig:
        """Return a config with `changes` laid over the present flags."""
        return EngineConfig(flags={**self.flags, **canonical_flags(changes)})

    def to_args(self) -> tuple[str, ...]:
        """Return the flags as command-line arguments, in a fixed order."""
        return tuple(word for name, value in self.flags.items() for word in argument(name, value))

    def content_hash(self) -> str:
        """Return 12 hex digits that name these flags."""
        return content_hash(dict(self.flags))


def content_hash(content: object) -> str:
    """Return the first 12 hex digits of the SHA-256 of `content` as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]
