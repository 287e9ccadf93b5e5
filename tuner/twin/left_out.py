"""Which share of a layer a checkpoint left in 16 bits, told by the names of modules its configuration lists.

A list names modules, parts of their names, globs, or regular expressions after `re:`. Wrappers around a text model put
a prefix of their own before its names; they are compared without it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from controlplane.domain.errors import InvalidInput

_STATE_IN = ("mixer.in_proj", "mamba.in_proj", "linear_attn.in_proj_qkvz")
_STATE_OUT = ("mixer.out_proj", "mamba.out_proj", "linear_attn.out_proj")
_PROJECTIONS = (
    (0.4, ("self_attn.q_proj", "self_attn.qkv_proj", "self_attn.q_b_proj", "mixer.q_proj", *_STATE_IN)),
    (0.1, ("self_attn.k_proj", "self_attn.qkv_proj", "self_attn.kv_b_proj", "mixer.k_proj")),
    (0.1, ("self_attn.v_proj", "self_attn.qkv_proj", "self_attn.kv_b_proj", "mixer.v_proj")),
    (0.4, ("self_attn.o_proj", "mixer.o_proj", *_STATE_OUT)),
)
_SHARED = ("shared_expert.", "shared_experts.")
_DENSE = tuple(
    (1 / 3, tuple(f"mlp.{beside}{name}" for name in names for beside in ("", *_SHARED)))
    for names in (("gate_proj", "gate_up_proj"), ("up_proj", "gate_up_proj"), ("down_proj",))
)
_ROUTED = tuple(
    (1 / 3, ("mlp.experts", f"mlp.experts.0.{name}", "block_sparse_moe.experts", f"block_sparse_moe.experts.0.{short}"))
    for name, short in (("gate_proj", "w1"), ("up_proj", "w3"), ("down_proj", "w2"))
)
_PARTS: Mapping[str, Sequence[tuple[float, Sequence[str]]]] = {
    "attention": _PROJECTIONS,
    "mlp": _DENSE,
    "experts": _ROUTED,
}
"""Of each part its modules, by the names they go by, and the share of its weights: attention's as with four queries to
a key."""
_PREFIXES = ("language_model.model.", "model.language_model.", "language_model.", "backbone.", "transformer.", "model.")


_ENDLESS = re.compile(r"\([^()]*[*+][^()]*\)[*+{]")


class Names(NamedTuple):
    """Modules as a list names them."""

    exact: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]

    def hit(self, module: str) -> bool:
        """Say whether the list names this module, something above it, or a part of its name."""
        words = module.split(".")
        spans = (".".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, len(words) + 1))
        return any(span in self.exact for span in spans) or any(each.match(module) for each in self.patterns)


def plain_shares(config: Mapping[str, Any], layers: int) -> dict[str, float]:
    """Return of attention, mlp and experts the share of weights left in 16 bits, 0 to 1.

    Raises InvalidInput for a list that is none, and for a pattern that cannot be read.
    """
    excluded, targets = names_of(_excluded(config)), _targets(config)
    return {part: _share(part, excluded, targets, layers) for part in _PARTS}


def names_of(given: Iterable[str]) -> Names:
    """Return a list of names, globs and expressions for comparison. Raises InvalidInput for a bad expression."""
    named = [_without_prefix(each) for each in given]
    exact = frozenset(each for each in named if not each.startswith("re:") and "*" not in each)
    return Names(exact, tuple(_pattern(each) for each in named if each not in exact))


def _pattern(text: str) -> re.Pattern[str]:
    if text.startswith("re:") and _ENDLESS.search(text):
        raise InvalidInput(f"{text[:60]!r} repeats what repeats itself", why="matching it may take for ever")
    try:
        return re.compile(text[3:] if text.startswith("re:") else f"{fnmatch.translate(text)}|{_below(text)}")
    except re.error as error:
        raise InvalidInput(f"{text!r} names no modules", why=str(error)) from error


def _below(glob: str) -> str:
    return fnmatch.translate(f"{glob}.*")


def _without_prefix(name: str) -> str:
    found = next((prefix for prefix in _PREFIXES if name.startswith(f"{prefix}layers.")), "")
    return f"model.{name.removeprefix(found)}" if found else name


def _share(part: str, excluded: Names, targets: Names | None, layers: int) -> float:
    left_out = 0.0
    for layer in range(layers):
        for share, names in _PARTS[part]:
            modules = [f"model.layers.{layer}.{name}" for name in names]
            if any(map(excluded.hit, modules)) or not (targets is None or any(map(targets.hit, modules))):
                left_out += share
    return min(1.0, left_out / layers) if left_out < layers * (1 - 1e-9) else 1.0


_IN_BLOCK = "modules_in_block_to_quantize"
_OF_EXPRESSIONS = frozenset("*+?^$()[]{}|\\")
_EXCLUDING = ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers", "llm_int8_skip_modules")


def _excluded(config: Mapping[str, Any]) -> tuple[str, ...]:
    found = [each for name in _EXCLUDING for each in _listed(name, config.get(name))]
    found += _listed("exclude_modules", (config.get("quantization") or {}).get("exclude_modules"))
    found += _otherwise(config)
    dynamic = config.get("dynamic") or {}  # GPTQModel: "-:pattern" leaves a module out
    if any(not str(key).startswith("-:") for key in dynamic):
        raise InvalidInput("modules quantized in different ways (dynamic) are unknown to the twin")
    return (*found, *(f"re:{str(key)[2:]}" for key in dynamic))


def _otherwise(config: Mapping[str, Any]) -> list[str]:
    """Return what auto-round left in 16 bits (`extra_config`). Raises InvalidInput for modules in other bits."""
    usual, found = config.get("bits", 4), []
    for name, said in (config.get("extra_config") or {}).items():
        bits = said.get("bits", usual)
        if bits < 16 and (bits, said.get("group_size", config.get("group_size"))) != (usual, config.get("group_size")):
            raise InvalidInput(f"{name[:60]} in {bits} bits, others in {usual} (extra_config): unknown to the twin")
        if bits >= 16:
            found.append(f"re:{name}" if set(name) & _OF_EXPRESSIONS else name)
    return found


def _targets(config: Mapping[str, Any]) -> Names | None:
    """Return what is quantized at all (compressed-tensors; GPTQ of some modules); None for every linear layer."""
    groups = (config.get("config_groups") or {}).values()
    found = [each for group in groups for each in _listed("targets", group.get("targets"))]
    found += [each for block in config.get(_IN_BLOCK) or () for each in _listed(_IN_BLOCK, block)]
    return None if not found or any("linear" in each.lower() for each in found) else names_of(found)


def _listed(key: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"{key} is {str(value)[:40]!r}", allowed="a list of modules")
    return [str(each) for each in value]
