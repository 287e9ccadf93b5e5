"""How long to let tokens gather, so that one turn reads many connections: waking up costs more than reading. Pure.

The kernel's stamps make reading late harmless as long as no two tokens of one stream come meanwhile: the moment is a
quarter of their usual gap.
"""

from __future__ import annotations

from loadtests.meter import TokenMeter

_FIRST_NS = 500_000
_LONGEST_NS = 4_000_000
_PART = 4  # of a gap; with as many streams, one token is expected within the moment


class Gathering:
    """Follows the gaps of the streams that ended, slowly."""

    def __init__(self, time_lapse: float) -> None:
        self._ns = int(_FIRST_NS / time_lapse)

    def moment_ns(self, streams: int) -> int:
        """Return how long to wait with this many streams open: not at all when nothing is expected meanwhile."""
        return self._ns if streams >= _PART else 0

    def learn(self, meter: TokenMeter) -> None:
        """Take note of a stream that ended."""
        if meter.events > 1:
            part_ns = (meter.last_ns - meter.first_ns) / (_PART * (meter.events - 1))
            self._ns += int((min(part_ns, _LONGEST_NS) - self._ns) / 8)
