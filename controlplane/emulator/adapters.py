"""LoRA adapters: which names clients may ask for beside the model's own, and what vLLM refuses to load.

An adapter is a folder in PEFT's form. Its weights are never read: an answer under its name differs by the `model` it
carries and shares no cached prefix with others. What their places cost in memory, and one that must be brought onto
the GPU in time, is the twin's (`tuner.twin.adapter_slots`); that a step with adapters computes more is not emulated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from controlplane.domain.adapters import DEFAULT_MAX_RANK
from controlplane.domain.base import Value
from controlplane.domain.engines.flags import FlagValue
from controlplane.emulator.errors import ApiError

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
_NEEDED = ("r", "lora_alpha", "target_modules")
_ENGINE_SAID = "Call to add_lora method failed: "


class AdapterSpec(Value):
    """One of `--lora-modules`: a name for clients and where the adapter lies (fields as vLLM's LoRAModulePath)."""

    name: str
    path: str
    base_model_name: str | None = None
    is_3d_lora_weight: bool = False


class LoraOptions(Value):
    """What `--enable-lora` and its limits say."""

    enabled: bool = False
    highest_rank: int = Field(default=DEFAULT_MAX_RANK, ge=1)

    @classmethod
    def from_flags(cls, flags: Mapping[str, FlagValue]) -> LoraOptions:
        return cls(
            enabled=flags.get("enable-lora", False) is True,
            highest_rank=int(flags.get("max-lora-rank", DEFAULT_MAX_RANK)),
        )


class Adapters:
    """The adapters that are loaded, by name. `base` are the names of the model itself, the first its own."""

    def __init__(self, base: tuple[str, ...], options: LoraOptions) -> None:
        self._base = base
        self._options = options
        self._loaded: dict[str, AdapterSpec] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._loaded

    def load(self, spec: AdapterSpec, *, in_place: bool = False) -> str:
        """Load an adapter and return what vLLM answers. Raises ApiError in vLLM's words."""
        if not spec.name or not spec.path:
            raise _wrong("Both 'lora_name' and 'lora_path' must be provided.")
        if spec.name in self._loaded and not in_place:
            raise _wrong(
                f"The lora adapter '{spec.name}' has already been loaded. If you want to load the adapter in place, "
                "set 'load_inplace' to True."
            )
        if not self._options.enabled:
            raise _engine_failed("LoRA is not enabled. Use --enable-lora to enable LoRA.")
        _check_folder(spec, self._options.highest_rank)
        self._loaded[spec.name] = spec
        return f"Success: LoRA adapter '{spec.name}' added successfully."

    def unload(self, name: str) -> str:
        """Forget an adapter and return what vLLM answers. Raises ApiError in vLLM's words."""
        if not name:
            raise _wrong("'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self._loaded:
            raise ApiError(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        del self._loaded[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

    def cards(self) -> Iterable[dict[str, Any]]:
        """Return the cards of `/v1/models`. An adapter says no context length, it has that of its parent."""
        for spec in self._loaded.values():
            parent = spec.base_model_name if spec.base_model_name in self._base else self._base[0]
            yield model_card(spec.name, created=int(time.time()), root=spec.path, parent=parent, max_model_len=None)


def model_card(name: str, *, created: int, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    """Return one entry of `/v1/models` (vLLM's ModelCard)."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [],
    }


def _check_folder(spec: AdapterSpec, highest_rank: int) -> None:
    """Refuse what vLLM's worker refuses: nothing there, no weights, a rank too high, kinds it does not run."""
    folder = Path(spec.path).expanduser()
    described = folder / "adapter_config.json"
    if not described.is_file():
        raise ApiError(404, f"Loading lora {spec.name} failed: No adapter found for {spec.path}", "NotFoundError")
    for wrong in _wrong_with(_read(described), highest_rank):
        raise _engine_failed(wrong)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise _engine_failed(f"{folder} doesn't contain tensors")


def _read(described: Path) -> dict[str, Any]:
    try:
        config = json.loads(described.read_text())
    except ValueError as error:
        raise _engine_failed(str(error)) from error
    if not isinstance(config, dict):
        raise _engine_failed(f"{described} holds no JSON object")
    return config


def _wrong_with(config: Mapping[str, Any], highest_rank: int) -> Iterable[str]:
    if missing := [name for name in _NEEDED if name not in config]:
        yield f"Missing required configuration fields: {set(missing)}"
        return
    problems = []
    if config["r"] > highest_rank:
        problems.append(f"LoRA rank {config['r']} is greater than max_lora_rank {highest_rank}.")
    if config.get("bias", "none") != "none":
        problems.append("Adapter bias is not supported.")
    if config.get("use_dora"):
        problems.append("vLLM does not yet support DoRA.")
    if problems:
        yield " ".join(problems)


def _wrong(message: str) -> ApiError:
    return ApiError(400, message, "InvalidUserInput")


def _engine_failed(message: str) -> ApiError:
    return ApiError(500, _ENGINE_SAID + message, "InternalServerError")
