"""What in a service lets whoever writes it run code of their own on the host: only an admin may change that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controlplane.domain.engines.flags import canonical_flag
from controlplane.domain.service import ServiceSpec

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
    }
)
"""Flags of `vllm serve` that make it import code by name or from a file, vLLM 0.26."""


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
    engine, quality = spec.engine, spec.tuning.quality
    found: dict[str, Any] = {
        "engine.command": engine.command,
        "engine.flag_file": engine.flag_file,
        "engine.mapping": engine.mapping,
        "kubernetes": spec.kubernetes,  # images, volumes, service accounts
        "tuning.quality.command": quality.command,
        "tuning.quality.prompts": quality.prompts,
    }
    found |= {f"engine.env.{name}": value for name, value in engine.env.items()}  # LD_PRELOAD, PATH, ...
    flags = {canonical_flag(name): value for name, value in engine.flags.items()}
    found |= {f"engine.flags.{name}": flags[name] for name in code_flags(flags)}
    found |= {f"tuning.space.{name}": True for name in code_flags(spec.tuning.space)}
    return {field: value for field, value in found.items() if value}
