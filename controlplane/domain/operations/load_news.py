"""What the newest load tests of a service say to whoever watches it: of replays and of their generator. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

REPLAY_TELLS = timedelta(days=8)
"""A replay that is older says nothing of today: schedules are weekly at most, or nobody waits for them."""
GENERATOR_TELLS = timedelta(days=1)
"""How a host kept its time yesterday says little of it now."""


class LoadNews(NamedTuple):
    """What is too old is left out."""

    replays: Mapping[str, bool] = {}  # schedule → its newest valid replay was worse than its baseline
    lag_s: float | None = None  # of the newest report, P99, wall clock
    behind: str | None = None  # why the newest report says nothing of its target; None: it does, or nobody knows
    tested: bool = False  # there is such a report

    @property
    def regressed(self) -> list[str]:
        return [schedule for schedule, worse in self.replays.items() if worse]
