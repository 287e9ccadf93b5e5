"""The engines that the drivers' contract is run on: the emulator as each of them, by the driver's own command."""

from __future__ import annotations

import sys

from controlplane.domain.base import EngineId
from controlplane.domain.engines.drivers import driver_of
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.fleet import EngineSpec

DIALECTS = (EngineKind.SGLANG, EngineKind.TENSORRT_LLM, EngineKind.TGI, EngineKind.LLAMA_CPP)


def dressed(kind: EngineKind, *own: str) -> tuple[str, ...]:
    """Return the command that starts the emulator as another engine, with `own` flags of the emulator's."""
    if kind is EngineKind.EMULATOR:
        return (sys.executable, *driver_of(kind).command[1:], "--emulator-startup-s=0", *own)
    emulated = (sys.executable, "-m", "controlplane.emulator.dialects.main", kind.value, "--emulator-startup-s=0", *own)
    return (*emulated, "--", *driver_of(kind).command[1:])


def an_engine(
    kind: EngineKind, *own: str, model: str = "llama-8b", engine_id: str = "e-1", **flags: FlagValue
) -> EngineSpec:
    """Return one emulated engine of a kind (`a_flag=1` is its flag `a-flag`)."""
    return EngineSpec(
        engine_id=EngineId(engine_id),
        owner="trial/s/1",
        kind=kind,
        model=model,
        served_name="chat",
        config=EngineConfig.model_validate({"flags": flags}),
        gpus=1,
        command=dressed(kind, *own),
    )
