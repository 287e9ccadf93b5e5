"""What goes wrong in every pass of a loop is said once, not twice a second."""

from __future__ import annotations

import logging
from collections.abc import Iterable


class Lasting:
    """Warns of problems that begin; one per loop. What went away and comes back is said again."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: set[str] = set()

    def tell(self, problems: Iterable[str]) -> None:
        """Say those of one pass that the pass before did not have."""
        present = set(problems)
        for problem in sorted(present - self._told):
            self._log.warning("%s", problem)
        self._told = present
