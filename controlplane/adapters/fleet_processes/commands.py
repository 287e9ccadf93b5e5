"""The command line and environment of one engine process."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from controlplane.adapters.fleet_processes.host import MARK
from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.errors import InvalidInput
from controlplane.domain.launch import serve_arguments
from controlplane.host.environment import for_others


def command_line(spec: EngineSpec, *, host: str, port: int) -> tuple[str, ...]:
    """Return the words to run. Raises InvalidInput when a template is wrong or the program is not installed."""
    args = serve_arguments(spec)
    if spec.command is not None:
        return _filled(spec.command, spec, host, port, args)
    program, *words = spec.driver.command
    return _filled((_found(program, spec.driver), *words), spec, host, port, args)


def require_program(driver: EngineDriver, command: Sequence[str] | None) -> None:
    """Raise InvalidInput when what would be run is not on this host."""
    if command:
        _require_found(command[0])
    else:
        _found(driver.command[0], driver)


def environment(spec: EngineSpec, *, base: Mapping[str, str], gpu_indices: Sequence[int], mark: str) -> dict[str, str]:
    """Return an engine's environment: what this process has (less what is the control plane's), its kind's, its own."""
    return {
        **for_others(base),
        "PYTHONUNBUFFERED": "1",
        **spec.driver.env,
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
        allowed = "{model} {name} {host} {port} {args}"
        raise InvalidInput("the engine command lacks " + " and ".join(missing), allowed=allowed)
    words: list[str] = []
    for word in template:
        if word == "{args}":
            words.extend(args)
            continue
        model = shlex.quote(spec.model) if len(word.split()) > 1 else spec.model
        named = word.replace("{model}", model).replace("{host}", host).replace("{port}", str(port))
        named = named.replace("{name}", spec.served_name)
        words.append(named.replace("{args}", shlex.join(args)))
    _require_found(words[0])
    return tuple(words)


def _require_found(program: str) -> None:
    if shutil.which(program) is None:
        raise InvalidInput(f"the engine command {program!r} cannot be run", why="no such program")


def _found(program: str, driver: EngineDriver) -> str:
    """Return a driver's program: this Python, the one beside it, else the one on the PATH."""
    if program == "{python}":
        return sys.executable
    beside = Path(sys.executable).parent / program
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(program)
    if found is None:
        raise InvalidInput(
            f"{driver.title} is not installed here",
            why=f"no `{program}` beside this Python or on the PATH",
            allowed=driver.install or "engine.command with the path of the program",
        )
    return found
