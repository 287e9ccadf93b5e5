"""What engines say of themselves, now and before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from controlplane.domain.engines.engine_metrics import EngineNumber, EngineNumbers, NumberAt


class MetricsSource(Protocol):
    """What engines say of themselves, from wherever it is collected. Stale or missing is None, never zero."""

    def read(self, model: str) -> EngineNumbers:
        """Return the newest numbers of all engines of a served model name. Raises Unavailable."""

    def series(
        self, model: str, number: EngineNumber, *, since: datetime, until: datetime, step_s: float
    ) -> Sequence[NumberAt]:
        """Return one number at `since`, and every `step_s` (whole seconds) until `until`. Raises Unavailable."""
