"""Whether one replica is to be asked: not while it cannot be reached, and for a while not when it fails or is slow."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 10.0
"""After failed connects, doubling in between. Nothing was sent, so asking again soon costs nothing."""

FIRST_EJECTION_S = 5.0
LONGEST_EJECTION_S = 80.0
"""After failed answers, doubling each time the probe fails: every try costs some client its answer."""

LATEST = 10
FAILED = 5
"""Ejected when 5 of the latest 10 answers failed. A replica that fails fast is always the least loaded one: without
this it draws most of the traffic."""

SLOW = 8
"""Ejected when 8 of the latest 10 that could be compared were far slower than the other replicas' answers."""


@dataclass
class Breaker:
    """Remembers how attempts on one replica went. Instants are monotonic seconds.

    Put aside after a failed connect, ejected after failed or slow answers. When the time is over one request at a time
    may probe it (half-open), until one goes well.
    """

    failures: int = 0  # connects in a row
    ejections: int = 0  # in a row
    _aside_until: float = 0.0
    _ejected_until: float = 0.0
    _probing: bool = False
    _latest: deque[bool] = field(default_factory=lambda: deque(maxlen=LATEST))
    _slow: deque[bool] = field(default_factory=lambda: deque(maxlen=LATEST))

    @property
    def is_open(self) -> bool:
        """Say whether it is put aside or ejected, its probe included."""
        return self.failures > 0 or self.ejections > 0

    def reachable(self, now: float) -> bool:
        """Say whether a connect may be tried."""
        return self.failures == 0 or (now >= self._aside_until and not self._probing)

    def ejected(self, now: float) -> bool:
        """Say whether it is to be left alone for the answers it gave."""
        return self.ejections > 0 and (now < self._ejected_until or self._probing)

    @property
    def ejected_until(self) -> float:
        return self._ejected_until

    def begin(self) -> bool:
        """Note that an attempt begins; True when it is the probe. Give that back to `end`."""
        if not self.is_open or self._probing:
            return False
        self._probing = True
        return True

    def end(self, probe: bool) -> None:
        """Note that the attempt is over, whatever came of it."""
        if probe:
            self._probing = False

    def connected(self) -> None:
        self.failures = 0

    def failed_to_connect(self, now: float) -> None:
        backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**self.failures)
        self.failures = min(self.failures + 1, 16)
        self._aside_until = now + backoff_s

    def went_well(self, now: float, *, probe: bool, slow: bool | None = None) -> None:
        """Note an answer. While ejected only the probe's counts: streams of before end well on a replica gone bad.

        `slow`: it took far longer than others do; None where nothing is known to compare it with.
        """
        if self.ejections and not probe:
            return
        if slow is not None:
            self._slow.append(slow)
        if slow and (self.ejections or self._slow.count(True) >= SLOW):
            self._eject(now)
            return
        if self.ejections:
            self._latest.clear()
            self._slow.clear()
        self.ejections = 0
        self._latest.append(True)

    def failed(self, now: float, *, probe: bool) -> None:
        """Note an answer that failed, or did not come in time."""
        self._latest.append(False)
        again = self.ejections > 0
        if again if probe else not again and self._latest.count(False) >= FAILED:
            self._eject(now)

    def _eject(self, now: float) -> None:
        ejection_s = min(LONGEST_EJECTION_S, FIRST_EJECTION_S * 2**self.ejections)
        self.ejections = min(self.ejections + 1, 16)
        self._ejected_until = now + ejection_s
