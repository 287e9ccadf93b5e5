"""Counts of one revision's requests, kept up request by request: a look costs what came since the last one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from controlplane.domain.door.outcomes import ANSWERED, EndLimits, Outcome, Reading, finished_at, read_outcome
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import Clustered, Counts
from controlplane.domain.rollouts.clusters import LATER_GROWS, Clusters
from controlplane.domain.rollouts.hits import Hits
from controlplane.domain.rollouts.spread import Curve, Spread
from controlplane.domain.rollouts.warm_up import WarmUp
from controlplane.domain.slo import LatencyMetric, LatencySlo

MOST_SESSIONS = 100_000
"""Sessions told apart; further ones are not counted as arrivals, so the split is then held to the first ones."""
SPREAD = (LatencyMetric.TTFT, LatencyMetric.TPOT)
NEWEST = 10
"""Answers that are looked at whenever they came, of those that say how they ended."""
MOST_CUT = 2
"""Cut streams of a session that say something of an engine: what one user meets is one circumstance."""
_KEPT = 10 * NEWEST  # of each gateway: of one session only some are looked at
_LATELY = 20_000  # finished requests of a gateway remembered for the guard rails' window and the present rate


class Arm:
    """One revision's requests of one kind, users' or replayed. Each gateway's come in the order of its files."""

    def __init__(
        self,
        slos: Sequence[LatencySlo],
        *,
        time_lapse: float,
        warm_up: WarmUp | None = None,
        weight_percent: int | None = None,
    ) -> None:
        """`warm_up` tells a replica's first requests, users' and replayed: arms of the same replicas share one.

        `weight_percent` is what the revision's share is held to: what a gateway chose under another weight (it has
        the step's table later than the step began, after a crash of the controller much later) was not asked by it.
        """
        self._slos = slos
        self._time_lapse = time_lapse
        self._counted = dict.fromkeys(Outcome, 0)
        self._warm_up = warm_up
        self._weight_percent = weight_percent
        self._truncated = self._asked = self._warming = 0
        self._misses, self._errors, self._refusals = Hits(), Hits(), Hits()
        self._clusters, self._whole, self._later = Clusters(), Clusters(), Clusters(LATER_GROWS)
        self._failed, self._refused, self._left = Clusters(), Clusters(), Clusters()
        self._cut: Counter[str] = Counter()
        self._cut_alone = 0  # of requests without a session
        self._streamed, self._end = 0, EndLimits.of(slos)
        self._spreads = {metric: Spread() for metric in SPREAD}
        self._sessions: set[str] = set()
        self._lately: dict[str, deque[tuple[datetime, GatewayRecord, Outcome]]] = {}  # by gateway
        self._newest: dict[str, deque[GatewayRecord]] = {}

    def add(self, record: GatewayRecord) -> bool | None:
        """Count a record; return whether it missed a limit, None where it says nothing of that, or nothing new."""
        reading = read_outcome(record.at_its_revision(), self._slos, time_lapse=self._time_lapse)
        self._counted[reading.outcome] += 1
        self._ask(record)
        warming = self._warm_up is not None and self._warm_up.covers(record, reading.outcome)
        missed: bool | None = None
        match reading.outcome:
            case Outcome.SERVED | Outcome.MISSED | Outcome.UNKNOWN | Outcome.FAILED | Outcome.LEFT_LATE:
                failed = reading.outcome is Outcome.FAILED
                self._streamed += record.stream
                if warming:
                    self._warming += 1
                else:
                    self._whole.see(record.gateway, cluster_of(record), self._end.missed(record, reading))
                if not warming and reading.outcome is not Outcome.UNKNOWN:
                    missed = failed or bool(reading.missed)
                    self._misses.see(record.gateway, missed)
                    missed = self._by_session(record, missed)
                self._answer(record, failed=failed)
            case Outcome.REFUSED_BY_ENGINE:
                self._refusals.see(record.gateway, hit=True)
                self._refused.see(record.gateway, cluster_of(record), hit=True)
            case Outcome.LEFT_EARLY:
                self._left.see(record.gateway, cluster_of(record), hit=True)
            case Outcome.REFUSED_BY_US | Outcome.INFRASTRUCTURE:
                pass
        if not warming:
            self._spread(record, reading)
        self._remember(record.without_blocks(), reading.outcome)
        return missed

    def _by_session(self, record: GatewayRecord, missed: bool) -> bool | None:
        """Count it for its session; None where that has counted often enough."""
        place = record.gateway, cluster_of(record)
        if self._clusters.see(*place, missed):
            return missed
        self._later.see(*place, missed)
        return None

    def _answer(self, record: GatewayRecord, *, failed: bool) -> None:
        place = record.gateway, cluster_of(record)
        self._errors.see(record.gateway, failed)
        self._refusals.see(record.gateway, hit=False)
        for clusters, hit in ((self._failed, failed), (self._refused, False), (self._left, False)):
            clusters.see(*place, hit)
        self._truncated += record.truncated
        if record.truncated and place[1] is not None:
            self._cut[place[1]] += 1
        elif record.truncated:
            self._cut_alone += 1

    def read(self, record: GatewayRecord) -> Outcome:
        """Return what a record says, uncounted."""
        return read_outcome(record, self._slos, time_lapse=self._time_lapse).outcome

    def counts(self) -> Counts:
        """Return what was counted so far."""
        return Counts(
            requests=self._errors.n,
            slo_misses=self._misses.hits,
            errors=self._errors.hits,
            truncated=self._truncated,
            refused=self._refusals.hits,
            untold=self._errors.n - self._misses.n - self._warming,
            warming=self._warming,
            left_early=self._counted[Outcome.LEFT_EARLY],
            infrastructure=self._counted[Outcome.INFRASTRUCTURE],
            asked=self._asked,
            miss_runs=self._misses.runs(),
            streamed=self._streamed,
            clustered=_told(self._clusters),
            whole=_told(self._whole),
            error_runs=self._errors.runs(),
            refusal_runs=self._refusals.runs(),
            cut=self._cut_alone + sum(min(each, MOST_CUT) for each in self._cut.values()),
            errors_clustered=_told(self._failed),
            refusals_clustered=_told(self._refused),
            left_clustered=_told(self._left),
            later_clustered=_told(self._later),
        )

    @property
    def latencies(self) -> int:
        """How many latencies `curves` know."""
        return sum(spread.n for spread in self._spreads.values())

    def curves(self) -> Mapping[LatencyMetric, Curve]:
        """Return how latencies spread so far, engine time. What failed has none, a client that left had so long."""
        return {metric: spread.curve() for metric, spread in self._spreads.items()}

    def lately(self, now: datetime, window_s: float) -> Sequence[tuple[GatewayRecord, Outcome]]:
        """Return what finished within the last wall-clock seconds, of each gateway the newest 20,000 at most."""
        since = now - timedelta(seconds=window_s)
        return [(record, outcome) for each in self._lately.values() for at, record, outcome in each if at >= since]

    def newest(self) -> Sequence[GatewayRecord]:
        """Return each gateway's last answers, of those that say how they ended or which model gave them.

        Of a revision with hardly any requests nothing lies within a window of seconds.
        """
        return [record for each in self._newest.values() for record in each]

    def _remember(self, record: GatewayRecord, outcome: Outcome) -> None:
        lately = self._lately.get(record.gateway) or self._lately.setdefault(record.gateway, deque(maxlen=_LATELY))
        lately.append((finished_at(record), record, outcome))
        if outcome in ANSWERED and (record.stop is not None or record.other_model is not None):
            newest = self._newest.get(record.gateway) or self._newest.setdefault(record.gateway, deque(maxlen=_KEPT))
            newest.append(record)

    def _spread(self, record: GatewayRecord, reading: Reading) -> None:
        late = reading.outcome is Outcome.LEFT_LATE
        if reading.outcome not in ANSWERED and not late:
            return
        waited = reading.e2e_ms if late and record.stream else None
        first = waited if reading.ttft_ms is None else reading.ttft_ms
        for metric, ms in ((LatencyMetric.TTFT, first), (LatencyMetric.TPOT, reading.tpot_ms)):
            if ms is not None:
                self._spreads[metric].see(record.gateway, ms)

    def _ask(self, record: GatewayRecord) -> None:
        if record.retries:  # it was counted where it was asked first: that is what a gateway chose by weight
            return
        if None not in (record.weight_percent, self._weight_percent) and record.weight_percent != self._weight_percent:
            return
        if cluster_of(record) is None:
            self._asked += 1
        elif (session := str(record.session)) not in self._sessions and len(self._sessions) < MOST_SESSIONS:
            self._sessions.add(session)
            self._asked += 1


def _told(seen: Clusters) -> Clustered:
    return Clustered(n=seen.n, misses=seen.hits, runs=seen.runs())


def cluster_of(record: GatewayRecord) -> str | None:
    """Return whose circumstance a request is; None of one by itself, as those of a session that was split up are."""
    return None if record.split_up else record.session


NO_REQUESTS = Arm((), time_lapse=1.0).counts()
