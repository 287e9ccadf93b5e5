"""How fast an error budget may burn: the SRE Workbook's windows (chapter 5, "Alerting on SLOs"). Pure.

14.4 times the budget over 1 h and 5 min pages, 6 times over 6 h and 30 min makes a ticket. Prometheus rules and the
built-in watch ask the same.
"""

from __future__ import annotations

from typing import NamedTuple


class Burn(NamedTuple):
    """One alert on a burning budget: both windows, seconds, must be beyond `times` the budget."""

    alert: str
    times: float
    long_s: int
    short_s: int
    severity: str

    def threshold(self, allowed: float) -> float:
        """Return the share of misses beyond which it burns too fast, where `allowed` may miss.

        A limit that allows many misses (a P50) cannot be missed 14.4 times as often; then half way between what it
        allows and everything is the threshold.
        """
        return min(self.times * allowed, (1 + allowed) / 2)


FAST = Burn("FleetuneErrorBudgetBurnsFast", 14.4, 3600, 300, "page")
SLOW = Burn("FleetuneErrorBudgetBurnsSlowly", 6, 6 * 3600, 1800, "ticket")
BURNS = (FAST, SLOW)
