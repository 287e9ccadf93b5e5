"""The command line of another engine, read as strictly as its flag file lets it, and what it means to the twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from controlplane.domain.engines.drivers import driver_of
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.engines.flags import FlagValue, dashed
from controlplane.emulator.dialects.refusals import REFUSALS, Refusals
from tuner.space.knobs.checks import fits
from tuner.space.knobs.schema import KnobFlag, KnobSchema, KnobType, load_knobs
from tuner.space.knobs.words import KNOBS

_MODEL = ("model-path", "model-id", "model")
_HOST = ("host", "hostname")
_COUNTED = ("requests in a batch", "tokens of one step", "longest sequence", "share of GPU memory")
_SUBCOMMANDS = frozenset({"serve"})
_TYPES = {KnobType.INT: "integer", KnobType.FLOAT: "float"}


class Refused(Exception):
    """`str(error)` is what the engine prints last."""


class Given(NamedTuple):
    """What a command line asks for, by long names."""

    model: str
    flags: dict[str, FlagValue]


def read(kind: EngineKind, words: Sequence[str]) -> Given:
    """Return what the words after the program's name ask for. Raises Refused in the engine's words."""
    driver = driver_of(kind)
    assert driver.flag_files is not None  # every kind with a dialect has its flag file
    reader = _Reader(
        load_knobs(engine=driver.flag_files), driver.flags.joined, driver.flags.underscores, REFUSALS[kind]
    )
    positional, flags = reader.read([word for word in words if word not in _SUBCOMMANDS])
    named = next((str(flags.pop(name)) for name in _MODEL if name in flags), None)
    model = named or next(iter(positional), None)
    if model is None:
        raise Refused(REFUSALS[kind].without_value.format(flag="MODEL"))
    return Given(model, flags)


def as_vllm(kind: EngineKind, given: Given) -> list[str]:
    """Return the words an emulated vLLM gets: what decides capacity, under vLLM's names."""
    flags = given.flags
    host = next((flags[name] for name in _HOST if name in flags), "127.0.0.1")
    driver = driver_of(kind)
    name = flags.get(driver.name_flag or "", given.model)
    key = flags.get(driver.key_flag or "")
    words = [given.model, f"--host={host}", f"--port={flags.get('port', 8000)}", f"--served-model-name={name}"]
    words += [] if key is None else [f"--api-key={key}"]
    return [*words, *(f"--{flag}={value}" for flag, value in counted(kind, flags).items())]


def counted(kind: EngineKind, flags: Mapping[str, FlagValue]) -> dict[str, FlagValue]:
    """Return the flags that decide capacity, under vLLM's names."""
    found: dict[str, FlagValue] = {}
    for knob in _COUNTED:
        (ours, *_), theirs = KNOBS[knob][EngineKind.VLLM], KNOBS[knob].get(kind, ())
        value = next((flags[flag] for flag in theirs if flag in flags), None)
        if isinstance(value, int | float) and value > 0:
            found[ours] = value
    if "max-num-seqs" in found and "max-num-batched-tokens" in found:
        found["max-num-batched-tokens"] = max(found["max-num-batched-tokens"], found["max-num-seqs"])
    sizes = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
    return found | {size: flags[size] for size in sizes if size in flags}


class _Reader(NamedTuple):
    schema: KnobSchema
    joined: bool
    underscores: bool
    refusals: Refusals

    def read(self, words: Sequence[str]) -> tuple[list[str], dict[str, FlagValue]]:
        positional, flags, left = list[str](), dict[str, FlagValue](), iter(words)
        for word in left:
            if word.startswith("--"):
                name, value = self._flag(word, left)
                flags[name] = value
            else:
                positional.append(word)
        return positional, flags

    def _flag(self, word: str, left: Iterator[str]) -> tuple[str, FlagValue]:
        written, equals, text = word.partition("=")
        flag, name, negated = self._find(written)
        if flag is None or (equals and not self.joined):
            raise Refused(self.refusals.unknown.format(flag=word if equals and not self.joined else written))
        if flag.type in (KnobType.BOOL, KnobType.SWITCH):
            return name, not negated
        value = text if equals else next(left, None)
        if value is None:
            raise Refused(self.refusals.without_value.format(flag=written))
        return name, self._value(written, flag, value)

    def _find(self, written: str) -> tuple[KnobFlag | None, str, bool]:
        """Return a flag with its long name, and whether it is negated; None when none is spelled like this."""
        bare, other = written.removeprefix("--"), "-" if self.underscores else "_"
        if other in bare:
            return None, bare, False
        name = dashed(bare)
        for known, flag in self.schema.flags.items():
            if name == known or name in flag.aliases:
                return flag, known, False
            if flag.type is KnobType.BOOL and name == f"no-{known}":
                return flag, known, True
        return None, name, False

    def _value(self, written: str, flag: KnobFlag, text: str) -> FlagValue:
        value = _typed(flag, text)
        known = flag.choices is None or value in flag.choices or text in map(str, flag.choices)
        if value is None or not known or not fits(flag, value):
            kind = _TYPES.get(flag.type, "choice")
            raise Refused(self.refusals.invalid.format(flag=written, value=text, type=kind))
        return value


def _typed(flag: KnobFlag, text: str) -> FlagValue | None:
    try:
        match flag.type:
            case KnobType.INT:
                return int(text)
            case KnobType.FLOAT:
                return float(text)
            case KnobType.STR | KnobType.JSON | KnobType.BOOL | KnobType.SWITCH:
                return text
    except ValueError:
        return None
