"""The part of a load test that one process sends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtests.send.plan import Plan
from loadtests.send.schedule import Schedule


@dataclass(frozen=True)
class Share:
    """What one worker sends of a plan's schedule."""

    plan: Plan
    schedule: Schedule
    indices: npt.NDArray[np.int64]
