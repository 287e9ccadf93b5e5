"""Which flags a version of an engine knows, with their types, defaults and choices."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from controlplane.domain.base import Value
from controlplane.domain.engines.flags import canonical_flag
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.problems import describe
from controlplane.reading.text_file import read_text

if TYPE_CHECKING:  # an emulator reads its flags by this, and has no use for all that a service may say
    from controlplane.domain.service import EngineOptions

VLLM = "vllm"
DEFAULT_VERSION = "0.26"  # of vLLM; of others the newest file that ships
UNKNOWN_VERSION = "0.0.0"  # of a help text that does not name its version
LISTS_IN_JSON = ("allowed-headers", "allowed-methods", "allowed-origins")
"""Lists that vLLM's parser takes as one word of JSON (`FrontendArgs._customize_cli_kwargs`), not as several words."""

EXTRACT = "`fleetune knobs extract` makes a flag file of another version; engine.flag_file points to it"


class KnobType(StrEnum):
    BOOL = "bool"  # `--flag` and `--no-flag`
    SWITCH = "switch"  # `--flag` only
    INT = "int"
    FLOAT = "float"
    STR = "str"
    JSON = "json"


class KnobFlag(Value):
    """One flag. `choices` are the only values taken; `default` is what the engine writes down itself."""

    type: KnobType
    default: Any = None
    choices: tuple[str | int | float, ...] | None = None
    suggestions: tuple[str | int | float, ...] | None = Field(
        default=None, description="Known values of a flag that takes others too (plugins)."
    )
    group: str = Field(description="What the engine puts it under, e.g. vLLM's SchedulerConfig.")
    optional: bool = Field(default=False, description="None is a value: the engine then decides itself.")
    many: bool = Field(default=False, description="Takes several values.")
    aliases: tuple[str, ...] = ()
    human_int: bool = Field(default=False, description="Takes 1k, 2K, 1M as well as plain integers.")


class KnobSchema(Value):
    """All flags of one version by long name without dashes, e.g. `max-num-seqs`."""

    engine: str = Field(default=VLLM, description="Whose flags they are: the name its flag files ship under.")
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


def shipped_versions(engine: str = VLLM) -> tuple[str, ...]:
    """Return an engine's versions (major.minor) whose schema ships with Fleetune, oldest first."""
    names = (entry.name for entry in resources.files("tuner.space.knobs").iterdir())
    pattern = re.compile(rf"{re.escape(engine)}-(\d+\.\d+)\.json")
    return tuple(sorted((match[1] for name in names if (match := pattern.fullmatch(name))), key=release_of))


def knobs_of(engine: EngineOptions) -> KnobSchema:
    """Return the flags of the engine: its own flag file's, else those that ship for its version.

    Raises InvalidInput when no file fits the version, or its own cannot be read or is of another version or engine.
    """
    ships = engine.driver.flag_files
    if engine.flag_file is None:
        return load_knobs(engine.version, ships) if ships else _UNKNOWN_FLAGS
    schema, title = _read(Path(engine.flag_file)), engine.driver.title
    if ships is not None and schema.engine != ships:
        raise InvalidInput(f"the flag file {engine.flag_file} is of {schema.engine}", allowed=f"one of {title}")
    known = schema.version != UNKNOWN_VERSION
    if known and engine.version is not None and release_of(engine.version) != release_of(schema.version):
        raise InvalidInput(
            f"the flag file {engine.flag_file} is of another {_said(schema.engine)}",
            why=f"it was made from {schema.version}, engine.version is {engine.version}",
        )
    return schema


def is_known(schema: KnobSchema) -> bool:
    """Say whether there is a flag file at all; without one an engine's start decides."""
    return schema is not _UNKNOWN_FLAGS


@cache
def load_knobs(version: str | None = None, engine: str = VLLM) -> KnobSchema:
    """Return the schema of a version ('0.26', '0.26.0', '0.26.1+cu130', llama.cpp's 'b10434'); None is the default.

    A version between two shipped ones gets the older file. Raises InvalidInput when it is older or newer than all.
    """
    shipped = shipped_versions(engine)
    wanted = release_of(version or (DEFAULT_VERSION if engine == VLLM else shipped[-1]))
    fitting = [known for known in shipped if release_of(known) <= wanted]
    if not fitting or wanted > release_of(shipped[-1]):
        raise InvalidInput(
            f"the flags of {_said(engine)} {version} are not known",
            why=f"it is {'newer' if fitting else 'older'} than every flag file that ships",
            allowed=f"engine.version from {shipped[0]} to {shipped[-1]}; {EXTRACT}",
        )
    text = (resources.files("tuner.space.knobs") / f"{engine}-{fitting[-1]}.json").read_text()
    return KnobSchema.model_validate(json.loads(text))


def _read(path: Path) -> KnobSchema:
    try:
        return KnobSchema.model_validate_json(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the flag file {path}", why=unreadable(error), allowed=EXTRACT) from error
    except ValidationError as error:
        raise InvalidInput(f"{path} is no flag file", why=describe(error), allowed=EXTRACT) from error


def release_of(version: str) -> tuple[int, int]:
    """Return major and minor; a build of llama.cpp (b10434) is minor to 0. Raises InvalidInput."""
    build = re.fullmatch(r"b(\d+)", version)
    if build is not None:
        return 0, int(build[1])
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match is None:
        raise InvalidInput(f"'{version}' is no version of an engine", allowed="e.g. 0.26.0")
    return int(match.group(1)), int(match.group(2))


def _said(engine: str) -> str:
    return "vLLM" if engine == VLLM else engine
