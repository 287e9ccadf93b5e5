"""Secrets in what a service says: which values they are, how they are shown, and what a shown one stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from controlplane.domain.door.judging import JudgeOptions
from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.flags import FlagValue, canonical_flag
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import Alternative, EngineOptions, ServiceSpec
from controlplane.domain.studies.tuning_options import QualityOptions

HIDDEN = "(hidden)"
C = TypeVar("C", JudgeOptions | None, QualityOptions | None, EngineDriver | None)

_SECRET_WORDS = frozenset({"key", "token", "secret", "password", "credential", "credentials"})


def is_secret(flag: str, value: object) -> bool:
    """Say whether a flag's value is a secret by the flag's last word: `api-key`, `hf-token`; numbers never are."""
    return isinstance(value, str) and canonical_flag(flag).rpartition("-")[2].lower() in _SECRET_WORDS


def masked(content: Any, field: str = "") -> Any:
    """Return JSON content with every secret hidden: all of `env`, secret `flags`, and secret words of a `command`.

    It goes by the names of fields, wherever they are, so that nobody who adds an answer has to think of it.
    """
    if isinstance(content, Mapping):
        if field == "env":
            return dict.fromkeys(content, HIDDEN)
        if field == "flags":
            return {name: HIDDEN if is_secret(name, value) else value for name, value in content.items()}
        return {name: masked(value, name) for name, value in content.items()}
    if isinstance(content, list | tuple):
        if field == "command":
            return masked_words(content)
        return [masked(each, field) for each in content]
    return content


def masked_words(words: Sequence[Any]) -> list[Any]:
    """Return a command line with the values of secret options hidden: `--api-key=x`, `--api-key x` and `HF_TOKEN=x`."""
    shown: list[Any] = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, _ = str(word).partition("=")
        if equals and is_secret(name, ""):
            shown.append(f"{name}={HIDDEN}")
        elif str(before).startswith("--") and "=" not in str(before) and is_secret(str(before), str(word)):
            shown.append(HIDDEN)
        else:
            shown.append(word)
    return shown


def revealed(spec: ServiceSpec, before: ServiceSpec | None) -> ServiceSpec:
    """Return a spec that was read and is given back, with what it hides as it was before.

    Raises InvalidInput when it hides something that has no value yet.
    """
    engine = _filled_engine("engine", spec.engine, None if before is None else before.engine)
    others = {} if before is None else before.alternatives
    ways = {name: _filled_way(name, way, others.get(name)) for name, way in spec.alternatives.items()}
    judge = _with_command("ab_judge", spec.ab_judge, None if before is None else before.ab_judge)
    quality = _with_command("tuning.quality", spec.tuning.quality, None if before is None else before.tuning.quality)
    same = engine is spec.engine and all(way is spec.alternatives[name] for name, way in ways.items())
    if same and judge is spec.ab_judge and quality is spec.tuning.quality:
        return spec
    tuning = spec.tuning.evolve(quality=quality)
    return spec.evolve(engine=engine, alternatives=ways, ab_judge=judge, tuning=tuning)


def _with_command(where: str, holder: C, old: C) -> C:
    """Return what has a command with the command's hidden words as they were."""
    if holder is None:
        return holder
    command = _filled_words(where, holder.command, None if old is None else old.command)
    return holder if command == holder.command else holder.evolve(command=command)


def _filled_way(name: str, way: Alternative, old: Alternative | None) -> Alternative:
    if way.engine is None:
        return way
    engine = _filled_engine(f"alternatives.{name}.engine", way.engine, None if old is None else old.engine)
    return way if engine is way.engine else way.evolve(engine=engine)


def _filled_engine(where: str, engine: EngineOptions, old: EngineOptions | None) -> EngineOptions:
    env = _filled(f"{where}.env", engine.env, {} if old is None else old.env)
    flags = _filled(f"{where}.flags", engine.flags, {} if old is None else old.flags)
    command = _filled_words(where, engine.command, None if old is None else old.command)
    mapping = _with_command(f"{where}.mapping", engine.mapping, None if old is None else old.mapping)
    if (env, flags, command, mapping) == (dict(engine.env), dict(engine.flags), engine.command, engine.mapping):
        return engine
    return EngineOptions(**{**dict(engine), "env": env, "flags": flags, "command": command, "mapping": mapping})


def _filled(where: str, given: Mapping[str, Any], old: Mapping[str, FlagValue]) -> dict[str, Any]:
    unknown = [name for name, value in given.items() if value == HIDDEN and name not in old]
    _refuse(f"{where}.{name}" for name in unknown)
    return {name: old[name] if value == HIDDEN else value for name, value in given.items()}


def _filled_words(where: str, given: tuple[str, ...] | None, old: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if given is None or not any(HIDDEN in word for word in given):
        return given
    if old is None or tuple(masked_words(old)) != given:
        _refuse([f"{where}.command"])
    return old


def _refuse(fields: Iterable[str]) -> None:
    hidden = ", ".join(fields)
    if hidden:
        raise InvalidInput(
            f"{hidden} cannot be '{HIDDEN}'",
            why="that is how a secret is shown, and no earlier value of it is known",
            allowed="the value itself",
        )
