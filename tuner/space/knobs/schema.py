"""Which flags a vLLM version knows, with their types, defaults and choices; and what to answer to a wrong one."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from controlplane.domain.base import Value
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue, canonical_flag
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.domain.service import EngineOptions
from controlplane.reading.problems import describe
from tuner.space.knobs.removed import removed_flags
from tuner.space.knobs.words import foreign_flags

DEFAULT_VERSION = "0.26"
UNKNOWN_VERSION = "0.0.0"  # of a help text that does not name its version
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

LISTS_IN_JSON = ("allowed-headers", "allowed-methods", "allowed-origins")
"""Lists that vLLM's parser takes as one word of JSON (`FrontendArgs._customize_cli_kwargs`), not as several words."""

_EXTRACT = "`fleetune knobs extract` makes a flag file of any vLLM; engine.flag_file points to it"


class KnobType(StrEnum):
    BOOL = "bool"  # `--flag` and `--no-flag`
    SWITCH = "switch"  # `--flag` only
    INT = "int"
    FLOAT = "float"
    STR = "str"
    JSON = "json"


class KnobFlag(Value):
    """One flag of `vllm serve`. `choices` are the only values taken; `default` is what vLLM writes down itself."""

    type: KnobType
    default: Any = None
    choices: tuple[str | int | float, ...] | None = None
    suggestions: tuple[str | int | float, ...] | None = Field(
        default=None, description="Known values of a flag that takes others too (plugins)."
    )
    group: str = Field(description="The vLLM config class the flag belongs to, e.g. SchedulerConfig.")
    optional: bool = Field(default=False, description="None is a value: vLLM then decides itself.")
    many: bool = Field(default=False, description="Takes several values.")
    aliases: tuple[str, ...] = ()
    human_int: bool = Field(default=False, description="Takes 1k, 2K, 1M as well as plain integers.")


class KnobSchema(Value):
    """All flags of one vLLM version by long name without dashes, e.g. `max-num-seqs`."""

    version: str = Field(description="The exact version it was extracted from, e.g. 0.26.0.")
    source: str = Field(description="How it was extracted.")
    flags: Mapping[str, KnobFlag]

    def find(self, name: str) -> KnobFlag | None:
        """Return the flag with that long or short name, None when this version has none.

        A part of a JSON flag (`compilation-config.mode`) is found as the flag it is a part of.
        """
        wanted, _, part = canonical_flag(name).partition(".")
        found = self.flags.get(wanted) or next((flag for flag in self.flags.values() if wanted in flag.aliases), None)
        return None if found is None or (part and found.type is not KnobType.JSON) else found

    def nearest(self, name: str) -> str | None:
        """Return the known flag spelled most like `name`, None when nothing is close."""
        matches = difflib.get_close_matches(canonical_flag(name), self.flags, n=1, cutoff=0.6)
        return matches[0] if matches else None


_UNKNOWN_FLAGS = KnobSchema(version=UNKNOWN_VERSION, source="no flag file: the engine's start decides", flags={})


def shipped_versions() -> tuple[str, ...]:
    """Return the versions (major.minor) whose schema ships with Fleetune, oldest first."""
    names = (entry.name for entry in resources.files("tuner.space.knobs").iterdir())
    found = (match.group(1) for name in names if (match := re.fullmatch(r"vllm-(\d+\.\d+)\.json", name)))
    return tuple(sorted(found, key=_release))


def knobs_of(engine: EngineOptions) -> KnobSchema:
    """Return the flags of the engine: its own flag file's, else those that ship for its version.

    Raises InvalidInput when no file fits the version, or its own cannot be read or is of another version.
    """
    if engine.flag_file is None:
        return load_knobs(engine.version) if engine.driver.flag_files else _UNKNOWN_FLAGS
    schema = _read(Path(engine.flag_file))
    known = schema.version != UNKNOWN_VERSION
    if known and engine.version is not None and _release(engine.version) != _release(schema.version):
        raise InvalidInput(
            f"the flag file {engine.flag_file} is of another vLLM",
            why=f"it was made from {schema.version}, engine.version is {engine.version}",
        )
    return schema


@cache
def load_knobs(version: str | None = None) -> KnobSchema:
    """Return the schema of a vLLM version ('0.26', '0.26.0', '0.26.1+cu130'); None is the default version.

    A version between two shipped ones gets the older file. Raises InvalidInput when it is older or newer than all.
    """
    wanted, shipped = _release(version or DEFAULT_VERSION), shipped_versions()
    fitting = [known for known in shipped if _release(known) <= wanted]
    if not fitting or wanted > _release(shipped[-1]):
        raise InvalidInput(
            f"the flags of vLLM {version} are not known",
            why=f"it is {'newer' if fitting else 'older'} than every flag file that ships",
            allowed=f"engine.version from {shipped[0]} to {shipped[-1]}; {_EXTRACT}",
        )
    text = (resources.files("tuner.space.knobs") / f"vllm-{fitting[-1]}.json").read_text()
    return KnobSchema.model_validate(json.loads(text))


def check_flags(config: EngineConfig, engine: EngineOptions) -> None:
    """Refuse flags the engine's version does not know and values they cannot take.

    Raises InvalidInput naming every wrong flag, with the nearest valid name or the allowed values.
    """
    schema = knobs_of(engine)
    if schema is _UNKNOWN_FLAGS:
        return _check_others(config, engine)
    problems = [problem for name, value in config.flags.items() if (problem := _problem(schema, name, value))]
    if problems:
        asked = engine.version or schema.version
        stand_in = _release(asked) != _release(schema.version) and schema.version != UNKNOWN_VERSION
        raise InvalidInput(
            f"vLLM {asked if stand_in else schema.version} cannot be started like this",
            why="; ".join(problems),
            allowed=f"the flags of {schema.version}, the nearest earlier file that ships; {_EXTRACT}"
            if stand_in
            else "",
        )


def _check_others(config: EngineConfig, engine: EngineOptions) -> None:
    """Refuse what is certainly wrong with the flags of an engine of which no flag file is there."""
    owned = [f"--{name} is not yours to set: {why}" for name, why in _OWNED.items() if name in config.flags]
    problems = [*owned, *foreign_flags(config, engine.kind)]
    if problems:
        raise InvalidInput(f"{engine.driver.title} cannot be started like this", why="; ".join(problems))


def _read(path: Path) -> KnobSchema:
    try:
        return KnobSchema.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the flag file {path}", why=unreadable(error), allowed=_EXTRACT) from error
    except ValidationError as error:
        raise InvalidInput(f"{path} is no flag file", why=describe(error), allowed=_EXTRACT) from error


def _problem(schema: KnobSchema, name: str, value: FlagValue) -> str | None:
    if (owned := _OWNED.get(name) or _owned_value(name, value)) is not None:
        return f"--{name} is not yours to set: {owned}"
    flag = schema.find(name)
    if flag is None:
        return _unknown(schema, name)
    if "." in name:
        return None  # vLLM reads a part as JSON, or else as text
    if flag.choices is not None and value not in flag.choices:
        return f"--{name}={value} is not one of {', '.join(map(str, flag.choices))}"
    if not _fits(flag, value):
        return f"--{name}={value} is not of type {flag.type.value}"
    return None


def _unknown(schema: KnobSchema, name: str) -> str:
    removed = removed_flags().get(canonical_flag(name))
    if removed is not None and _release(removed.lacks) <= _release(schema.version):
        return f"--{name} {removed}"
    elsewhere = [known for known in shipped_versions() if load_knobs(known).find(name) is not None]
    foreign = foreign_flags(EngineConfig(flags={name: ""}), EngineKind.VLLM)
    if foreign:
        return foreign[0]
    nearest = schema.nearest(name)
    known_in = f" (known in {', '.join(elsewhere)})" if elsewhere else ""
    hint = f", did you mean --{nearest}?" if nearest else ""
    return f"there is no --{name}{known_in}{hint}"


def _fits(flag: KnobFlag, value: FlagValue) -> bool:
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


def _owned_value(name: str, value: FlagValue) -> str | None:
    """Say what is wrong with an engine's key: the gateway and the controller show one, and need it."""
    if name != "api-key" or len(str(value).split()) == 1:
        return None
    return "one key, not empty, which Fleetune's own requests carry; better VLLM_API_KEY in engine.env"


def _parses(kind: Callable[[Any], object], value: FlagValue) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _release(version: str) -> tuple[int, int]:
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match is None:
        raise InvalidInput(f"'{version}' is no vLLM version", allowed="e.g. 0.26.0")
    return int(match.group(1)), int(match.group(2))
