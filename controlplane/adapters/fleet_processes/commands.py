"""The command line and environment of one engine process."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from controlplane.adapters.fleet_processes.host import MARK
from controlplane.domain.engine import EngineKind
from controlplane.domain.errors import InvalidInput
from controlplane.domain.fleet import EngineSpec
from controlplane.domain.launch import serve_arguments


def command_line(spec: EngineSpec, *, host: str, port: int) -> tuple[str, ...]:
    """Return the words to run. Raises InvalidInput when a template is wrong or the program is not installed."""
    args = serve_arguments(spec)
    if spec.command is not None:
        return _filled(spec.command, spec, host, port, args)
    where = ("--host", host, "--port", str(port))
    match spec.kind:
        case EngineKind.VLLM:
            return (_vllm(), "serve", spec.model, *where, *args)
        case EngineKind.EMULATOR:
            return (sys.executable, "-m", "controlplane.emulator.main", spec.model, *where, *args)


def require_program(kind: EngineKind, command: Sequence[str] | None) -> None:
    """Raise InvalidInput when what would be run is not on this host."""
    if command:
        _require_found(command[0])
    elif kind is EngineKind.VLLM:
        _vllm()


def environment(spec: EngineSpec, *, base: Mapping[str, str], gpu_indices: Sequence[int], mark: str) -> dict[str, str]:
    """Return the environment of an engine: what this process has (without Fleetune's own settings), then the spec's.

    `SPT_NOENV` keeps vLLM's process titles from overwriting the environment its processes are found by.
    """
    inherited = {name: value for name, value in base.items() if not name.startswith("FLEETUNE_")}
    return {
        **inherited,
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",
        **spec.env,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as nvidia-smi counts, which is where the indices come from
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpu_indices)),
        MARK: mark,
    }


def _filled(template: Sequence[str], spec: EngineSpec, host: str, port: int, args: Sequence[str]) -> tuple[str, ...]:
    """Fill a template; a word that is just `{args}` becomes all arguments.

    Inside a word that a shell will take apart (it has blanks) model and arguments are quoted.
    """
    text = " ".join(template)
    missing = [name for name in ("{port}", "{args}") if name not in text]
    if missing:
        raise InvalidInput("the engine command lacks " + " and ".join(missing), allowed="{model} {host} {port} {args}")
    words: list[str] = []
    for word in template:
        if word == "{args}":
            words.extend(args)
            continue
        model = shlex.quote(spec.model) if len(word.split()) > 1 else spec.model
        named = word.replace("{model}", model).replace("{host}", host).replace("{port}", str(port))
        words.append(named.replace("{args}", shlex.join(args)))
    _require_found(words[0])
    return tuple(words)


def _require_found(program: str) -> None:
    if shutil.which(program) is None:
        raise InvalidInput(f"the engine command {program!r} cannot be run", why="no such program")


def _vllm() -> str:
    """Return the `vllm` beside this Python, else the one on the PATH."""
    beside = Path(sys.executable).parent / "vllm"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("vllm")
    if found is None:
        raise InvalidInput(
            "vLLM is not installed here",
            why="no `vllm` beside this Python or on the PATH",
            allowed="`pip install fleetune[vllm]`, or engine.command with the path of another environment's vllm",
        )
    return found
