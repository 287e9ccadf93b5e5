"""The search space: which flags vary, over which values, and which combinations make sense.

Every dimension is a finite, ordered list of values. A range becomes a grid (an engine start costs minutes: nobody can
afford to tell 250 from 256 sequences), so a space can be counted and searched without meeting a point twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.engines.engine import ENGINE, EngineConfig
from controlplane.domain.engines.flags import FlagValue, canonical_flag
from controlplane.domain.errors import InvalidInput
from controlplane.domain.studies.tuning_options import Knob

Point = Mapping[str, FlagValue | None]
"""A value for every dimension, by flag name. None leaves the flag out."""

_GRID_POINTS = 9  # of a logarithmic range without a step


class Requirement(Value):
    """A dimension that only matters while `flag` has one of `values`; otherwise it is left out."""

    flag: str
    values: tuple[FlagValue | None, ...]


class Dimension(Value):
    """One flag and the values tried for it, in order when they are numbers.

    Where several engines are tried, two of them may have flags of one name: `flag` is then `engine/name`.
    """

    flag: str
    choices: tuple[FlagValue | None, ...] = Field(min_length=1)
    default: FlagValue | None = Field(default=None, description="What the engine does when the flag is left out.")
    requires: Requirement | None = None
    engines: tuple[str, ...] = Field(default=(), description="Who has the flag; empty: every engine tried.")

    @property
    def written(self) -> str:
        """The flag as the engine knows it."""
        return self.flag.rpartition("/")[2]

    def belongs_to(self, engine: FlagValue | None) -> bool:
        """Say whether an engine has this flag; None where only one engine is tried."""
        return engine is None or not self.engines or engine in self.engines

    @property
    def is_numeric(self) -> bool:
        """True when the choices are numbers, so that near values are alike."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.choices)


class Space(Value):
    """All dimensions and the flags every candidate shares."""

    base: EngineConfig
    dimensions: tuple[Dimension, ...]
    bases: Mapping[str, EngineConfig] = Field(
        default_factory=dict, description="Of each engine tried, where there are several."
    )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dimension.flag for dimension in self.dimensions)

    @property
    def size(self) -> int:
        """Combinations before conditions and feasibility."""
        return sum(math.prod(len(d.choices) for d in dimensions) for dimensions in self._by_engine())

    def points(self) -> Iterator[Point]:
        """Yield every distinct point once; values without effect (an unmet requirement) are left out."""
        seen: set[tuple[FlagValue | None, ...]] = set()
        absent: dict[str, FlagValue | None] = dict.fromkeys(self.names)
        for dimensions in self._by_engine():
            names = [dimension.flag for dimension in dimensions]
            for values in itertools.product(*(dimension.choices for dimension in dimensions)):
                point = self.canonical(absent | dict(zip(names, values, strict=True)))
                key = tuple(point.values())
                if key not in seen:
                    seen.add(key)
                    yield point

    def _by_engine(self) -> Iterator[Sequence[Dimension]]:
        """Yield what varies of each engine tried, the engine itself with its one value."""
        chosen = next((d for d in self.dimensions if d.flag == ENGINE), None)
        if chosen is None:
            yield self.dimensions
            return
        for engine in chosen.choices:
            theirs = (d for d in self.dimensions if d is not chosen and d.belongs_to(engine))
            yield (chosen.evolve(choices=(engine,)), *theirs)

    def canonical(self, point: Point) -> Point:
        """Return the point with every value that has no effect replaced by None."""
        return {d.flag: point[d.flag] if _active(d, point) else None for d in self.dimensions}

    def config(self, point: Point) -> EngineConfig:
        """Return the engine's flags at a point. What the engine would do anyhow is not written out."""
        engine = point.get(ENGINE)
        base = self.base if engine is None else self.bases.get(str(engine), self.base)
        flags = dict(base.flags)
        for dimension in (each for each in self.dimensions if each.belongs_to(engine)):
            value, flag = point[dimension.flag], dimension.written
            if value is None or (flag not in base.flags and value == dimension.default):
                flags.pop(flag, None)
            else:
                flags[flag] = value
        return EngineConfig(flags=flags)

    def point(self, config: EngineConfig) -> Point:
        """Return where a config lies: its own flag, else the engine's default.

        Raises InvalidInput when a value is no choice of its dimension.
        """
        engine = self._engine_of(config)
        found = {d.flag: config.flags.get(d.written, d.default) for d in self.dimensions}
        for dimension in (each for each in self.dimensions if each.belongs_to(engine)):
            if found[dimension.flag] not in dimension.choices:
                raise InvalidInput(
                    f"--{dimension.written}={found[dimension.flag]} is outside the search space",
                    allowed=", ".join(map(str, dimension.choices)),
                )
        return self.canonical(found)

    def including(self, config: EngineConfig) -> Space:
        """Return the space with the config's values added to the choices: the baseline must be a point of it."""
        engine = self._engine_of(config)
        return self.evolve(
            dimensions=tuple(
                _with_choice(d, config.flags.get(d.written, d.default)) if d.belongs_to(engine) else d
                for d in self.dimensions
            )
        )

    def _engine_of(self, config: EngineConfig) -> FlagValue | None:
        return next((config.flags.get(ENGINE, d.default) for d in self.dimensions if d.flag == ENGINE), None)


def dimension_of(flag: str, knob: Knob, *, default: FlagValue | None) -> Dimension:
    """Return the dimension a user's knob describes. Raises InvalidInput for a range without a point in it."""
    return Dimension(flag=canonical_flag(flag), choices=_choices(flag, knob), default=default)


def _choices(flag: str, knob: Knob) -> tuple[FlagValue | None, ...]:
    if knob.choices is not None:
        return _sorted(dict.fromkeys(knob.choices))
    assert knob.low is not None
    assert knob.high is not None  # Knob lets only one of the two forms through
    whole = knob.low.is_integer() and knob.high.is_integer() and (knob.step is None or knob.step.is_integer())
    if knob.log and knob.low <= 0:
        raise InvalidInput(f"knob {flag}: a logarithmic range needs low above 0", why=f"low is {knob.low:g}")
    values = _geometric(knob.low, knob.high) if knob.log else _even(knob.low, knob.high, knob.step)
    return _sorted(dict.fromkeys(round(value) if whole else round(value, 6) for value in values))


def _geometric(low: float, high: float) -> Sequence[float]:
    doublings = math.log2(high / low)
    steps = round(doublings) if abs(doublings - round(doublings)) < 1e-9 else _GRID_POINTS - 1
    return [low * (high / low) ** (i / steps) for i in range(steps + 1)] if steps else [low]


def _even(low: float, high: float, step: float | None) -> Sequence[float]:
    width = step or (high - low) / (_GRID_POINTS - 1) or 1.0
    return [low + i * width for i in range(int((high - low) / width + 1e-9) + 1)]


def _sorted(values: Mapping[FlagValue | None, None]) -> tuple[FlagValue | None, ...]:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return tuple(sorted(numbers)) if len(numbers) == len(values) else tuple(values)


def _active(dimension: Dimension, point: Point) -> bool:
    if not dimension.belongs_to(point.get(ENGINE)):
        return False
    needed = dimension.requires
    return needed is None or needed.flag not in point or point[needed.flag] in needed.values


def _with_choice(dimension: Dimension, value: FlagValue | None) -> Dimension:
    if value in dimension.choices:
        return dimension
    return dimension.evolve(choices=_sorted(dict.fromkeys((*dimension.choices, value))))
