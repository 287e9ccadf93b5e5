"""What an engine is started with: its kind, its model and the flags of one replica."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field, field_validator

from controlplane.domain.base import Value

FlagValue = bool | int | float | str
"""Value of one `vllm serve` flag: True is `--flag`, False is `--no-flag`, anything else `--flag=value`."""


class EngineKind(StrEnum):
    VLLM = "vllm"
    EMULATOR = "emulator"


class EngineConfig(Value):
    """The flags of one replica, by their long names without dashes, e.g. `{"max-num-seqs": 256}`.

    Two configs with the same flags are equal and have the same hash, however the flags were written
    (`max_num_seqs` and `--max-num-seqs` become `max-num-seqs`).
    """

    flags: Mapping[str, FlagValue] = Field(default_factory=dict)

    @field_validator("flags")
    @classmethod
    def _canonical(cls, flags: Mapping[str, FlagValue]) -> Mapping[str, FlagValue]:
        return {name: flags_value for name, flags_value in sorted((canonical_flag(n), v) for n, v in flags.items())}

    @property
    def tensor_parallel_size(self) -> int:
        return int(self.flags.get("tensor-parallel-size", 1))

    @property
    def pipeline_parallel_size(self) -> int:
        return int(self.flags.get("pipeline-parallel-size", 1))

    @property
    def gpus_per_replica(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def with_flags(self, changes: Mapping[str, FlagValue]) -> EngineConfig:
        """Return a config with `changes` laid over the present flags."""
        return EngineConfig(flags={**self.flags, **{canonical_flag(name): value for name, value in changes.items()}})

    def to_args(self) -> tuple[str, ...]:
        """Return the flags as command-line arguments, in a fixed order."""
        return tuple(_argument(name, value) for name, value in self.flags.items())

    def content_hash(self) -> str:
        """Return 12 hex digits that name these flags."""
        return content_hash(dict(self.flags))


def canonical_flag(name: str) -> str:
    """Return a flag's long name without leading dashes and with dashes inside."""
    return name.strip().lstrip("-").replace("_", "-")


def content_hash(content: object) -> str:
    """Return the first 12 hex digits of the SHA-256 of `content` as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


def _argument(name: str, value: FlagValue) -> str:
    if value is True:
        return f"--{name}"
    if value is False:
        return f"--no-{name}"
    return f"--{name}={value}"
