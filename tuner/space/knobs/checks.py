"""What to answer to a flag that an engine would refuse, before anything is started."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue, canonical_flag
from controlplane.domain.errors import InvalidInput
from tuner.space.knobs.removed import removed_flags
from tuner.space.knobs.schema import (
    EXTRACT,
    UNKNOWN_VERSION,
    VLLM,
    KnobFlag,
    KnobSchema,
    KnobType,
    is_known,
    knobs_of,
    load_knobs,
    release_of,
    shipped_versions,
)
from tuner.space.knobs.words import foreign_flags

if TYPE_CHECKING:
    from controlplane.domain.service import EngineOptions

_OWNED = {
    "host": "Fleetune chooses where an engine listens",
    "port": "Fleetune chooses where an engine listens",
    "uds": "Fleetune speaks to engines over TCP",
    "served-model-name": "clients know the model as model.name",
    "model": "it is model.path",
    "alias": "clients know the model as model.name",
    "model-path": "it is model.path",
    "model-id": "it is model.path",
    "hostname": "Fleetune chooses where an engine listens",
    "headless": "an engine without a server cannot be reached",
    "root-path": "Fleetune asks an engine under /",
    "ssl-certfile": "Fleetune speaks to engines in plain HTTP on its own hosts",
    "ssl-keyfile": "Fleetune speaks to engines in plain HTTP on its own hosts",
    "ssl-ca-certs": "Fleetune speaks to engines in plain HTTP on its own hosts",
    "ssl-cert-reqs": "Fleetune speaks to engines in plain HTTP on its own hosts",
}
"""Flags that would take an engine out of Fleetune's reach, and why."""


def check_flags(config: EngineConfig, engine: EngineOptions) -> None:
    """Refuse flags the engine's version does not know and values they cannot take.

    Raises InvalidInput naming every wrong flag, with the nearest valid name or the allowed values.
    """
    schema = knobs_of(engine)
    if not is_known(schema):
        return _check_others(config, engine)
    given = config.flags.items()
    problems = [problem for name, value in given if (problem := _problem(schema, engine, name, value))]
    if problems:
        asked = engine.version or schema.version
        stand_in = release_of(asked) != release_of(schema.version) and schema.version != UNKNOWN_VERSION
        raise InvalidInput(
            f"{_title(engine)} {asked if stand_in else schema.version} cannot be started like this",
            why="; ".join(problems),
            allowed=f"the flags of {schema.version}, the nearest earlier file that ships; {EXTRACT}"
            if stand_in
            else "",
        )


def _check_others(config: EngineConfig, engine: EngineOptions) -> None:
    """Refuse what is certainly wrong with the flags of an engine of which no flag file is there."""
    owned = [problem for name, value in config.flags.items() if (problem := _owned(engine, name, value))]
    problems = [*owned, *foreign_flags(config, engine.kind)]
    if problems:
        raise InvalidInput(f"{engine.driver.title} cannot be started like this", why="; ".join(problems))


def _title(engine: EngineOptions) -> str:
    """Return whose flags they are; the emulator takes vLLM's."""
    return "vLLM" if engine.driver.flag_files == VLLM else engine.driver.title


def _problem(schema: KnobSchema, engine: EngineOptions, name: str, value: FlagValue) -> str | None:
    if (owned := _owned(engine, name, value)) is not None:
        return owned
    flag = schema.find(name)
    if flag is None:
        return _unknown(schema, engine, name)
    if "." in name:
        return None  # vLLM reads a part as JSON, or else as text
    if flag.choices is not None and value not in flag.choices:
        return f"--{name}={value} is not one of {', '.join(map(str, flag.choices))}"
    if not fits(flag, value):
        return f"--{name}={value} is not of type {flag.type.value}"
    return None


def _owned(engine: EngineOptions, name: str, value: FlagValue) -> str | None:
    why = engine.driver.owned.get(name) or _OWNED.get(name) or _owned_value(engine, name, value)
    return None if why is None else f"--{name} is not yours to set: {why}"


def _unknown(schema: KnobSchema, engine: EngineOptions, name: str) -> str:
    removed = removed_flags().get(canonical_flag(name)) if schema.engine == VLLM else None
    if removed is not None and release_of(removed.lacks) <= release_of(schema.version):
        return f"--{name} {removed}"
    foreign = foreign_flags(EngineConfig(flags={name: ""}), engine.kind)
    if foreign:
        return foreign[0]
    others = [known for known in shipped_versions(schema.engine) if load_knobs(known, schema.engine).find(name)]
    nearest = schema.nearest(name)
    known_in = f" (known in {', '.join(others)})" if others else ""
    hint = f", did you mean --{nearest}?" if nearest else ""
    return f"there is no --{name}{known_in}{hint}"


def fits(flag: KnobFlag, value: FlagValue) -> bool:
    """Say whether a value is of a flag's type; whether it is one of its choices is another question."""
    match flag.type:
        case KnobType.BOOL:
            return isinstance(value, bool) or (flag.optional and isinstance(value, str))
        case KnobType.SWITCH:
            return value is True
        case KnobType.INT:
            return _is_integer(flag, value)
        case KnobType.FLOAT:
            return not isinstance(value, bool) and _parses(float, value)
        case KnobType.STR:
            return not isinstance(value, bool)
        case KnobType.JSON:
            return not isinstance(value, bool) and (value == flag.default or _parses(json.loads, str(value)))


def _is_integer(flag: KnobFlag, value: FlagValue) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str) and (flag.many or flag.human_int):
        return value == "auto" or all(re.fullmatch(r"-?\d+(\.\d+)?[kKmMgGtT]?", part) for part in value.split())
    return _parses(int, value) and float(value) == int(value)


def _owned_value(engine: EngineOptions, name: str, value: FlagValue) -> str | None:
    """Say what is wrong with an engine's key: the gateway and the controller show one, and need it."""
    if name != "api-key" or len(str(value).split()) == 1:
        return None
    variable = engine.driver.key_variable
    better = f"; better {variable} in engine.env" if variable else ""
    return f"one key, not empty, which Fleetune's own requests carry{better}"


def _parses(kind: Callable[[Any], object], value: FlagValue) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True
