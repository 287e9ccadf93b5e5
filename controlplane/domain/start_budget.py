"""How long a new replica may take to start on a cluster, by the starts that trials saw. Pure."""

from __future__ import annotations

MARGIN = 3.0
"""Times the longest start seen. On an H200 starts of one model took 57 to 98 s once the node had its files, and 126 to
156 s while it did not (docs/results/h200-2026-11-25.md): the slowest is 2.7 times the fastest, and a new node is one
without files.
"""
FLOOR_S = 300.0
"""Never less: about twice the slowest of those starts, so that a few quick trials kill no cold start."""


def start_budget_s(longest_s: float, *, ceiling_s: float) -> float:
    """Return the seconds a start may take when the longest that trials saw took `longest_s`; `start_timeout_s` is the
    ceiling, also below the floor.
    """
    return min(ceiling_s, max(FLOOR_S, MARGIN * longest_s))
