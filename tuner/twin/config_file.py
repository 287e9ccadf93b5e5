"""A model folder's config.json as decoded JSON, with what modelopt writes beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.text_file import read_text
from tuner.twin.mistral_file import as_config

_LARGEST_BYTES = 32 * 2**20
"""Real ones have some kilobytes; lists of modules that were left out make some megabytes of them."""


class UnknownModel(InvalidInput):
    """No shape can be read: the architecture, or the way its checkpoint is stored, is not in the table."""


def read_config(folder_or_file: str, *, otherwise: str = "") -> Any:
    """Return a decoded config.json, with the quantization that stands beside it where it names none itself.

    Raises UnknownModel when there is none, or where one of the files cannot be read; `otherwise` is allowed, too.
    """
    path = Path(folder_or_file)
    file = path / "config.json" if path.is_dir() else path
    mistrals = file.with_name("params.json")
    try:
        if file == mistrals or (not file.exists() and path.is_dir() and mistrals.exists()):
            return as_config(_object(_decoded(mistrals)))
        raw = _decoded(file)
    except _UNREADABLE as error:
        allowed = f"a folder with config.json{otherwise}"
        raise UnknownModel(f"no model shape in {folder_or_file!r}", why=_why(error, file), allowed=allowed) from error
    return _with_modelopts_file(raw, file)


def _object(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError("params.json holds no JSON object")
    return raw


def _with_modelopts_file(raw: Any, config_file: Path) -> Any:
    """Return a configuration with what stands beside it in `hf_quant_config.json`, where it says nothing itself.

    modelopt wrote its quantization there before 0.31; vLLM reads it (`get_config` of `transformers_utils/config.py`).
    Raises UnknownModel where that file cannot be read: taken for 16 bits the model would be far too large.
    """
    beside = config_file.with_name("hf_quant_config.json")
    if not isinstance(raw, dict) or raw.get("quantization_config") is not None or not beside.exists():
        return raw
    try:
        return {**raw, "quantization_config": _decoded(beside)}
    except _UNREADABLE as error:
        raise UnknownModel(
            f"{beside.name} beside the model's config.json cannot be read", why=unreadable(error)
        ) from error


def _why(error: Exception, file: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no {file.absolute()}, and of a hub name alone nothing is known here"
    return unreadable(error)


_UNREADABLE = (OSError, ValueError, RecursionError)


def _decoded(file: Path) -> Any:
    """Raises OSError, ValueError or RecursionError for what is no JSON that one would take for a configuration."""
    return json.loads(read_text(file, most_bytes=_LARGEST_BYTES))
