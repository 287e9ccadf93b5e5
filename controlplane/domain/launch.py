"""From a service and the flags of one replica to the engine to start: the same for trials and for live replicas."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.engines.spelling import spelled, spelled_text
from controlplane.domain.hardware import GpuPool
from controlplane.domain.owner import Owner
from controlplane.domain.service import EngineOptions, ModelSpec

EMULATOR_PREFIX = "emulator-"
"""Flags that start like this are the emulator's own; no vLLM knows them."""


def engine_spec(  # noqa: PLR0913 - all by keyword: what to start, and how
    engine_id: EngineId,
    owner: Owner,
    *,
    model: ModelSpec,
    engine: EngineOptions,
    gpus: GpuPool,
    config: EngineConfig,
    shares_gpus: str | None = None,
    spot: bool = False,
    start_budget_s: float | None = None,
) -> EngineSpec:
    """Return what to start. An emulator also gets its GPU, profile, start-up time and time lapse as flags."""
    return EngineSpec(
        engine_id=engine_id,
        owner=owner,
        kind=engine.kind,
        model=model.path,
        served_name=model.name,
        config=config.without_alternative().with_flags(_own_flags(engine, gpus, config)),
        gpus=config.gpus_per_replica,
        spot=spot,
        command=engine.command,
        mapping=engine.mapping,
        env=engine.env,
        start_timeout_s=engine.start_timeout_s,
        start_budget_s=start_budget_s,
        shares_gpus=shares_gpus,
    )


def serve_arguments(spec: EngineSpec) -> tuple[str, ...]:
    """Return an engine's flags as arguments, its served name first; where it listens is not among them."""
    driver = spec.driver
    named = () if driver.name_flag is None else spelled_text(driver.name_flag, spec.served_name, driver.flags)
    always = {name: value for name, value in driver.always.items() if name not in spec.config.flags}
    said = [*always.items(), *spec.config.flags.items()]
    return (*named, *(word for name, value in said for word in spelled(name, value, driver.flags)))


def shutdown_timeout_s(spec: EngineSpec) -> int:
    """Return how many seconds an engine takes at most to finish after SIGTERM; 0 when nothing says so."""
    flag = spec.driver.drain_flag
    return 0 if flag is None else int(spec.config.flags.get(flag, spec.driver.always.get(flag, 0)))


def without_emulator_flags(config: EngineConfig) -> EngineConfig:
    """Return the flags a real engine would be given too."""
    given = config.without_alternative().flags
    return EngineConfig(flags={n: v for n, v in given.items() if not n.startswith(EMULATOR_PREFIX)})


def _own_flags(engine: EngineOptions, gpus: GpuPool, config: EngineConfig) -> Mapping[str, FlagValue]:
    if engine.kind is not EngineKind.EMULATOR:
        return {}
    own: dict[str, FlagValue] = {
        "emulator-gpu": gpus.type,
        "emulator-startup-s": engine.emulator.startup_s,
        "emulator-time-lapse": engine.emulator.time_lapse,
    }
    if engine.emulator.first_use_s > 0:
        own["emulator-first-use-s"] = engine.emulator.first_use_s
    if engine.emulator.profile is not None:
        own["emulator-profile"] = engine.emulator.profile
    return {name: value for name, value in own.items() if name not in config.flags}
