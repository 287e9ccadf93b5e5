"""The space of a service with alternatives: which engine serves is a dimension, and each has flags of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from controlplane.domain.engines.engine import ENGINE, EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from tuner.space.space import Dimension, Requirement, Space

DimensionsOf = Callable[[ServiceSpec, EngineConfig], tuple[Dimension, ...]]
"""Returns what varies of one way to serve, given the flags it starts from."""


def space_across(spec: ServiceSpec, baseline: EngineConfig, dimensions_of: DimensionsOf) -> Space:
    """Return the space over the service's own engine and its alternatives, the baseline a point of it.

    `tuning.space` may hold `engine` with the choices to try; left out all are. Raises InvalidInput.
    """
    own = spec.engine.kind.value
    names = _tried(spec)
    if (serves := baseline.alternative or own) not in names:
        raise InvalidInput(f"the baseline is served by {serves}, which is not tried", allowed=", ".join(names))
    bases = {name: _base(spec, name) for name in names} | {serves: baseline}
    chosen = Dimension(flag=ENGINE, choices=names, default=own)
    theirs = (each for name in names for each in _of_one(spec, name, bases[name], dimensions_of))
    return Space(base=baseline, bases=bases, dimensions=(chosen, *theirs)).including(baseline)


def _tried(spec: ServiceSpec) -> tuple[str, ...]:
    """Return the names of the ways to try, in the order of the service."""
    knob = spec.tuning.space.get(ENGINE)
    if knob is None:
        return tuple(spec.ways)
    wanted = knob.choices or ()
    unknown = [str(each) for each in wanted if each not in spec.ways]
    if unknown or not wanted:
        why = f"unknown: {', '.join(unknown)}" if unknown else "it takes choices"
        raise InvalidInput(f"tuning.space.{ENGINE} names what is not described", why=why, allowed=", ".join(spec.ways))
    return tuple(name for name in spec.ways if name in wanted)


def _base(spec: ServiceSpec, name: str) -> EngineConfig:
    """Return the flags that every candidate of a way shares."""
    flags = spec.ways[name].baseline
    return flags if name == spec.engine.kind.value else flags.with_flags({ENGINE: name})


def _of_one(spec: ServiceSpec, name: str, base: EngineConfig, dimensions_of: DimensionsOf) -> Iterator[Dimension]:
    for dimension in dimensions_of(spec.ways[name], base.without_alternative()):
        needed = dimension.requires
        yield dimension.evolve(
            flag=_key(spec, name, dimension.flag),
            engines=(name,),
            requires=None if needed is None else Requirement(flag=_key(spec, name, needed.flag), values=needed.values),
        )


def _key(spec: ServiceSpec, name: str, flag: str) -> str:
    """Return what a dimension is called: the service's own as ever, so that what was recorded stays readable."""
    return flag if name == spec.engine.kind.value else f"{name}/{flag}"
