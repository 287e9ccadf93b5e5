"""What in a service lets whoever writes it run code of their own on the host: only an admin may change that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controlplane.domain.engines.flags import canonical_flag
from controlplane.domain.service import Alternative, EngineOptions, ServiceSpec

CODE_FLAGS = frozenset(
    {
        "trust-remote-code",
        "middleware",
        "worker-cls",
        "worker-extension-cls",
        "scheduler-cls",
        "logits-processors",
        "logits-processor-pattern",
        "tool-parser-plugin",
        "reasoning-parser-plugin",
        "io-processor-plugin",
        "custom-module-dirs",  # TensorRT-LLM
        "custom-tokenizer",
        "custom-weight-loader",  # SGLang
        "agent",  # llama.cpp: tools that run commands
        "mcp-servers-config",
        "mcp-servers-json",
        "tools",
        "tools-runtime",
    }
)
"""Flags that make an engine import code by name or from a file, or run programs: vLLM 0.26's unless said otherwise."""


def code_flags(flags: Iterable[str]) -> tuple[str, ...]:
    """Return those flags that make an engine load code."""
    return tuple(sorted({canonical_flag(flag) for flag in flags} & CODE_FLAGS))


def changed_code(before: ServiceSpec | None, after: ServiceSpec) -> tuple[str, ...]:
    """Return the fields of `after` that run code and were not exactly so in `before`."""
    known = {} if before is None else _code_of(before)
    return tuple(field for field, value in _code_of(after).items() if known.get(field) != value)


def code_in_overrides(overrides: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the fields of a study's overrides (laid over `tuning`) that run code or read files of the host."""
    given = overrides or {}
    quality, space = given.get("quality"), given.get("space")
    fields = [
        f"quality.{name}" for name in ("command", "prompts") if isinstance(quality, Mapping) and quality.get(name)
    ]
    return (*fields, *(f"space.{flag}" for flag in code_flags(space if isinstance(space, Mapping) else ())))


def _code_of(spec: ServiceSpec) -> dict[str, Any]:
    quality = spec.tuning.quality
    found: dict[str, Any] = {
        **_code_of_engine(spec.engine),
        "ab_judge": spec.ab_judge,  # a command, and whose text it is given
        "kubernetes": spec.kubernetes,  # images, volumes, service accounts
        "tuning.quality.command": quality.command,
        "tuning.quality.prompts": quality.prompts,
    }
    found |= {f"tuning.space.{name}": True for name in code_flags(spec.tuning.space)}
    for name, other in spec.alternatives.items():
        found |= {f"alternatives.{name}.{field}": value for field, value in _code_of_way(other).items()}
    return {field: value for field, value in found.items() if value}


def _code_of_way(other: Alternative) -> dict[str, Any]:
    in_space = {f"space.{name}": True for name in code_flags(other.space)}
    return in_space | ({} if other.engine is None else _code_of_engine(other.engine))


def _code_of_engine(engine: EngineOptions) -> dict[str, Any]:
    flags = {canonical_flag(name): value for name, value in engine.flags.items()}
    return {
        "engine.command": engine.command,
        "engine.flag_file": engine.flag_file,
        "engine.mapping": engine.mapping,
        **{f"engine.env.{name}": value for name, value in engine.env.items()},  # LD_PRELOAD, PATH, ...
        **{f"engine.flags.{name}": flags[name] for name in code_flags(flags)},
    }
