"""Sums of days and months that outlive a restart: a file per gateway, written a second after a change."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.gateway.background import next_turn
from controlplane.gateway.counts.local import LocalCounts
from controlplane.host.files import write_whole

_log = logging.getLogger(__name__)

SAVED_EVERY_S = 1.0


@dataclass
class KeptSums:
    """Loads and saves the sums of a gateway that counts alone. A crash costs the last second."""

    counts: LocalCounts
    path: Path
    _saved: dict[str, float] = field(default_factory=dict)
    _failing: bool = False

    def load(self, present: frozenset[str]) -> None:
        """Go on from the saved sums whose names end in a `present` day or month.

        Those that cannot be read are reported, and counting begins anew.
        """
        try:
            found = json.loads(self.path.read_bytes())
            sums = {str(name): float(used) for name, used in found.items()}
            self.counts.begin_with({name: used for name, used in sums.items() if name.rpartition("/")[2] in present})
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _log.error("the sums of limits in %s cannot be read (%s): they begin anew", self.path, type(error).__name__)
        self._saved = dict(self.counts.sums)

    async def run(self) -> None:
        """Save in the background until cancelled."""
        while True:
            await next_turn(SAVED_EVERY_S)
            await self.save()

    async def save(self) -> None:
        """Save what changed. A disk that refuses is reported once, and asked again the next time."""
        sums = dict(self.counts.sums)
        if sums == self._saved:
            return
        try:
            await asyncio.to_thread(write_whole, self.path, json.dumps(sums))
        except OSError as error:
            if not self._failing:
                _log.error("the sums of limits cannot be written to %s: %s", self.path, error.strerror)
            self._failing = True
            return
        self._saved, self._failing = sums, False
