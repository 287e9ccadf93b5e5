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
from controlplane.domain.engines.engine import EngineConfig
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
    """One flag and the values tried for it, in order when they are numbers."""

    flag: str
    choices: tuple[FlagValue | None, ...] = Field(min_length=1)
    default: FlagValue | None = Field(default=None, description="What the engine does when the flag is left out.")
    requires: Requirement | None = None

    @property
    def is_numeric(self) -> bool:
        """True when the choices are numbers, so that near values are alike."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.choices)


class Space(Value):
    """All dimensions and the flags every candidate shares."""

    base: EngineConfig
    dimensions: tuple[Dimension, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dimension.flag for dimension in self.dimensions)

    @property
    def size(self) -> int:
        """Combinations before conditions and feasibility."""
        return math.prod(len(dimension.choices) for dimension in self.dimensions)

    def points(self) -> Iterator[Point]:
        """Yield every distinct point once; values without effect (an unmet requirement) are left out."""
        seen: set[tuple[FlagValue | None, ...]] = set()
        for values in itertools.product(*(dimension.choices for dimension in self.dimensions)):
            point = self.canonical(dict(zip(self.names, values, strict=True)))
            key = tuple(point.values())
            if key not in seen:
                seen.add(key)
                yield point

    def canonical(self, point: Point) -> Point:
        """Return the point with every value that has no effect replaced by None."""
        return {d.flag: point[d.flag] if _active(d, point) else None for d in self.dimensions}

    def config(self, point: Point) -> EngineConfig:
        """Return the engine's flags at a point. What the engine would do anyhow is not written out."""
        flags = dict(self.base.flags)
        for dimension in self.dimensions:
            value = point[dimension.flag]
            if value is None or (dimension.flag not in self.base.flags and value == dimension.default):
                flags.pop(dimension.flag, None)
            else:
                flags[dimension.flag] = value
        return EngineConfig(flags=flags)

    def point(self, config: EngineConfig) -> Point:
        """Return where a config lies: its own flag, else the engine's default.

        Raises InvalidInput when a value is no choice of its dimension.
        """
        found = {d.flag: config.flags.get(d.flag, d.default) for d in self.dimensions}
        for dimension in self.dimensions:
            if found[dimension.flag] not in dimension.choices:
                raise InvalidInput(
                    f"--{dimension.flag}={found[dimension.flag]} is outside the search space",
                    allowed=", ".join(map(str, dimension.choices)),
                )
        return self.canonical(found)

    def including(self, config: EngineConfig) -> Space:
        """Return the space with the config's values added to the choices: the baseline must be a point of it."""
        return self.evolve(
            dimensions=tuple(_with_choice(d, config.flags.get(d.flag, d.default)) for d in self.dimensions)
        )


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
    needed = dimension.requires
    return needed is None or needed.flag not in point or point[needed.flag] in needed.values


def _with_choice(dimension: Dimension, value: FlagValue | None) -> Dimension:
    if value in dimension.choices:
        return dimension
    return dimension.evolve(choices=_sorted(dict.fromkeys((*dimension.choices, value))))
