"""`fleetune-emulator MODEL --flags…`: an engine that takes vLLM's flags and behaves like vLLM on given hardware.

What serves is imported once an engine can start: one that refuses its flags or lacks memory says so sooner.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from controlplane.emulator.boot import StartRefused, engine_setup
from controlplane.emulator.flags import parse_command_line
from controlplane.emulator.settings import EmulatorSettings
from tuner.twin.setup import EngineSetup
from tuner.twin.shapes import ModelShape

_SWITCHES = {"dev_mode": "VLLM_SERVER_DEV_MODE", "runtime_adapters": "VLLM_ALLOW_RUNTIME_LORA_UPDATING"}


class Words(NamedTuple):
    """How an engine says that it does not start: by what vLLM would say, and by the error of the port."""

    refused: Callable[[str], str] = str
    port: Callable[[OSError], str] = "OSError: {}".format


def main() -> None:
    """Run one emulated engine until it is told to stop; exits as vLLM would."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return the exit code: 0 after a stop, 1 when the engine could not start; 2 (by argparse) for a refused flag."""
    settings = parse_command_line(arguments, visible_devices=visible_devices(environment))
    partition = environment.get("VLLM_PP_LAYER_PARTITION")
    return serve(settings.evolve(layer_partition=partition, **switches(environment)))


def serve(settings: EmulatorSettings, words: Words | None = None) -> int:
    """Run an engine and return its exit code: 0 after a stop, 1 when it could not start, said in `words`."""
    said = words or Words()
    log(f"fleetune emulator: {settings.model} on emulated {settings.gpu}, time lapse {settings.time_lapse:g}")
    try:
        with _bind(settings) as listener:
            shape, setup = engine_setup(settings)
            log(f"GPU KV cache size: {setup.memory.kv_tokens:,} tokens")
            return _live(settings, shape, setup, listener)
    except StartRefused as error:
        log("EngineCore failed to start.\nTraceback (most recent call last):")
        log(said.refused(str(error)))
        return 1
    except OSError as error:
        log(f"Traceback (most recent call last):\n{said.port(error)}")
        return 1


def log(line: str) -> None:
    """Write one line where vLLM writes its log."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def switches(environment: Mapping[str, str]) -> dict[str, bool]:
    """Return the settings that vLLM takes from variables, not from flags."""
    return {name: _is_set(environment, variable) for name, variable in _SWITCHES.items()}


def _live(settings: EmulatorSettings, shape: ModelShape, setup: EngineSetup, listener: socket.socket) -> int:
    gc.disable()  # nothing of what is imported is thrown away
    from controlplane.emulator.process import EmulatorProcess, live_until_told

    process = EmulatorProcess(settings, shape, setup, listener=listener, log=log)
    gc.collect()
    gc.freeze()  # a full collection would stop the clockwork for milliseconds
    gc.enable()
    return live_until_told(process)


def _bind(settings: EmulatorSettings) -> socket.socket:
    """Take the port before anything slow, as vLLM does; nothing is answered on it until the engine is ready."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


def _is_set(environment: Mapping[str, str], variable: str) -> bool:
    return environment.get(variable, "").strip().lower() in ("1", "true")


def visible_devices(environment: Mapping[str, str]) -> int | None:
    """Return how many GPUs an engine may use, None when nothing says so."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    return None if named is None else len([device for device in named.split(",") if device.strip()])


if __name__ == "__main__":
    main()
