"""How users of both arms fare while requests are replayed to the canary."""

from __future__ import annotations

from datetime import datetime

from controlplane.domain.base import RevisionId
from controlplane.domain.rollouts.arm import Arm
from controlplane.domain.rollouts.load_match import LATELY_S, rate_rps, suffers, window_s
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.ports.gateways import Position, RecordFeed


class StepUsers:
    """Users' requests of both arms since the step began."""

    def __init__(self, service: Service, rollout: Rollout, time_lapse: float) -> None:
        self.since, self.time_lapse = rollout.steps[-1].started_at, time_lapse
        self._service = service.name
        arms = (rollout.canary, rollout.stable)
        self._arms = {name: Arm(service.spec.slos.latency, time_lapse=time_lapse) for name in arms}
        self._canary, self._stable = arms
        self._position: Position = {}

    def catch_up(self, feed: RecordFeed) -> None:
        for news in feed.follow(self._service, since=self.since, position=self._position):
            for record in news.records:
                if record.revision in self._arms and not record.replayed:
                    self._arms[record.revision].add(record)
            self._position = news.position

    def canary_rps(self, now: datetime) -> float:
        """Return users' requests per second to the canary, engine time, over the step so far or the last window."""
        wall_s = window_s(self.time_lapse)
        past_s = max(1.0, min(wall_s, (now - self.since).total_seconds()))
        return rate_rps(self._arms[self._canary].lately(now, wall_s), past_s, self.time_lapse)

    def canary_suffers(self, now: datetime, spec: ServiceSpec, rollout: Rollout) -> str | None:
        return self._suffers("canary", self._canary, now, spec, rollout)

    def stable_suffers(self, now: datetime, spec: ServiceSpec, rollout: Rollout) -> str | None:
        return self._suffers("stable revision", self._stable, now, spec, rollout)

    def _suffers(
        self, said: str, arm: RevisionId | None, now: datetime, spec: ServiceSpec, rollout: Rollout
    ) -> str | None:
        finished = self._arms[arm].lately(now, window_s(self.time_lapse, LATELY_S))
        return suffers(said, finished, spec.slos, rollout.options)
