"""Axes that the pages of load tests and traces share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_FEW_DECADES = 2.6  # up to which 2 and 5 are named too


def log_axis(*columns: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return a logarithmic axis for these values, every tick with its whole number: plotly's own says 2 for 2,000."""
    shown = [column[np.isfinite(column) & (column > 0)] for column in columns]
    values = np.concatenate(shown) if shown else np.empty(0)
    if not len(values):
        return {"type": "log"}
    low, high = math.log10(float(values.min())), math.log10(float(values.max()))
    steps = (1, 2, 5) if high - low <= _FEW_DECADES else (1,)
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]}
