"""How much of a canary's load may be replayed, by the one capacity model. Pure.

Replayed requests stand in the queue that users of the canary stand in. While it has none they may go as high as the
capacity could be, the upper end of its interval: beyond, a queue is certain and says nothing. With users they go no
higher than what it most likely is, or than what the canary itself has carried at an earlier step.
"""

from __future__ import annotations

from controlplane.domain.base import Value
from controlplane.domain.operations.replica_capacity import ReplicaCapacity, Source
from controlplane.domain.rollouts.rollout import Rollout

_MEASURED_BY = {
    Source.CONFIRMED: "confirmed",
    Source.TRIAL: "measured in a trial",
    Source.DECLARED: "declared",
    Source.TWIN: "expected by the twin",
}


class Throttle(Value):
    """The most a canary replica is given, users' and replayed requests together, per second of engine time."""

    most_rps: float
    why: str

    def note(self, wanted_rps: float) -> str:
        """Say that less is sent than is to be proven; nothing where it is not."""
        if wanted_rps <= self.most_rps:
            return ""
        return f"replays throttled at {self.most_rps:.2f} requests/s a replica: {self.why}"


def throttle(capacity: ReplicaCapacity | None, rollout: Rollout) -> Throttle | None:
    """Return the limit at the step under way; None: nobody measured one, or no rate tried was too high."""
    if capacity is None or capacity.censored:
        return None
    rate, how = capacity.rate_rps, _MEASURED_BY[capacity.source]
    said = f"its capacity is {rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f}), {how}"
    if rollout.steps[-1].weight_percent == 0:
        return Throttle(most_rps=rate.high, why=said)
    carried = _carried_rps(rollout)
    if carried > rate.value:
        return Throttle(most_rps=carried, why=f"so much it carried at an earlier step; {said}")
    return Throttle(most_rps=rate.value, why=f"users stand in the same queue; {said}")


def _carried_rps(rollout: Rollout) -> float:
    """Return the highest load that an earlier step of this rollout has proven; 0 without one."""
    loads = [past.analysis.load for past in rollout.steps[:-1] if past.analysis is not None]
    return max((load.reached_rps for load in loads if load is not None and load.proven), default=0.0)
