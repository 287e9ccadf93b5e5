"""How long to let tokens gather, so that one turn reads many connections: waking up costs more than reading. Pure.

The kernel's stamps make reading late harmless as long as no two tokens of one stream come meanwhile: then the first of
them has the second's stamp. The moment is half of the usual gap while that does not happen, and shrinks to a quarter
where it does, because gaps there are uneven.
"""

from __future__ import annotations

from loadtests.measure.meter import TokenMeter

_FIRST_NS = 1_000_000
_LONGEST_NS = 5_000_000
_FEWEST = 4  # streams; with as many, even a quarter of a gap brings a token
_WIDE, _NARROW = 1 / 2, 1 / 4  # of a gap
_STEP = 1 / 64  # how fast a stream without tokens read together makes the moment wider again


class Gathering:
    """Follows the gaps of the streams that ended, slowly."""

    def __init__(self, time_lapse: float) -> None:
        self._gap_ns = 2 * _FIRST_NS / time_lapse
        self._part = _WIDE

    def moment_ns(self, streams: int) -> int:
        """Return how long to wait with this many streams open: not at all when nothing is expected meanwhile."""
        return int(min(self._part * self._gap_ns, _LONGEST_NS)) if streams >= _FEWEST else 0

    def learn(self, meter: TokenMeter) -> None:
        """Take note of a stream that ended."""
        if meter.events > 1:
            gap_ns = (meter.last_ns - meter.first_ns) / (meter.events - 1)
            self._gap_ns += (min(gap_ns, _LONGEST_NS / _NARROW) - self._gap_ns) / 8
            self._part = _NARROW if meter.coalesced else min(_WIDE, self._part + _STEP)
