"""How often a guarded write is tried anew when others wrote in between, and how soon."""

from __future__ import annotations

import time
from collections.abc import Iterator

_PAUSES_S = (0.0, 0.0, 0.01, 0.02, 0.04, 0.08, 0.16)
"""Controllers tell what came of a change in a burst of writes some milliseconds apart; a third of a second outlasts it
and delays a pass by no more than that.
"""
ATTEMPTS = len(_PAUSES_S)


def attempts() -> Iterator[int]:
    """Yield the number of each attempt, the first at once and the later ones after ever longer pauses."""
    for number, pause_s in enumerate(_PAUSES_S):
        if pause_s:
            time.sleep(pause_s)
        yield number
