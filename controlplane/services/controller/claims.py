"""Which tuner workers live, as this controller itself saw them beat."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.base import StudyId
from controlplane.domain.studies.study import STUDY_LEASE_S
from controlplane.ports.store import StudyClaim


class _Seen(NamedTuple):
    beat: datetime
    at_s: float


class ClaimWatch:
    """A worker is lost when its sign of life did not change for a lease of this controller's own time.

    Only whether a beat is another one counts, not when it says it was: neither a clock that is set nor the clock of
    another host ends a trial. A controller that just started waits a whole lease before it calls anybody lost.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: dict[tuple[StudyId, str], _Seen] = {}

    def forget_others(self, studies: Container[StudyId]) -> None:
        """Forget the workers of all but these studies."""
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] in studies}

    def living(self, study_id: StudyId, claims: Iterable[StudyClaim]) -> frozenset[str]:
        """Return the workers of a study whose beats go on. To be asked on every pass."""
        now_s, alive = self._monotonic(), set()
        for claim in claims:
            key = (study_id, claim.worker)
            seen = self._seen.get(key)
            if seen is None or seen.beat != claim.heartbeat_at:
                seen = self._seen[key] = _Seen(claim.heartbeat_at, now_s)
            if now_s - seen.at_s <= STUDY_LEASE_S:
                alive.add(claim.worker)
        return frozenset(alive)
