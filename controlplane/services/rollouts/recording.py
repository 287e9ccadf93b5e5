"""What is replayed to a canary: the service's own users as the gateways recorded them, or its declared workload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.rollouts.analysis import ReplaySource
from controlplane.domain.rollouts.recording import (
    MOST_BYTES,
    MOST_REQUESTS,
    REACHES_BACK,
    SETTLES,
    declared_instead,
    lacking,
    replayable,
)
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.serving import Service
from controlplane.domain.workload import Workload
from controlplane.ports.gateways import RecentRecords
from loadtests.send.trace_record import record_trace
from loadtests.send.traces import Trace, load_trace


class Replayable(NamedTuple):
    """What to send at a step, and what is to be said of it."""

    workload: Workload
    source: ReplaySource


@dataclass(frozen=True)
class Recorder:
    """Makes the recording of a step once, of what came a minute and more before it began. One file a service."""

    records: RecentRecords
    folder: Path

    def of_step(self, service: Service, rollout: Rollout, time_lapse: float) -> Replayable:
        """Return what to replay at the step under way: a recording where one is enough, else the workload."""
        try:
            trace = self._trace(service, rollout)
            wanting = lacking(len(trace), trace.duration_s * time_lapse)
        except (InvalidInput, Unavailable) as error:
            trace, wanting = None, str(error)
        if trace is None or wanting is not None:
            workload = service.spec.workload
            return Replayable(workload, declared_instead(workload, wanting or "nothing was recorded"))
        source = ReplaySource(recorded=len(trace), recorded_s=trace.duration_s * time_lapse)
        longest = int(trace.prompt_tokens.max()), int(trace.output_tokens.max())
        return Replayable(replayable(trace.name, longest_prompt=longest[0], longest_output=longest[1]), source)

    def _trace(self, service: Service, rollout: Rollout) -> Trace:
        """Raises Unavailable, and InvalidInput when there is nothing to record."""
        path = self.folder / f"recording-{service.name}.jsonl"
        try:
            record_trace(self._asked(service, rollout), path, keys=False)
        except OSError as error:
            raise Unavailable("the recording cannot be written", why=error.strerror or str(error)) from error
        return load_trace(str(path))

    def _asked(self, service: Service, rollout: Rollout) -> Sequence[GatewayRecord]:
        """Users' requests before the step: none that the canary answered, whose lengths may be its own fault."""
        until = rollout.steps[-1].started_at - SETTLES
        found = self.records.recent(
            service.name, since=until - REACHES_BACK, before=until, most=MOST_REQUESTS, most_bytes=MOST_BYTES
        )
        asked = [record for record in found if record.revision != rollout.canary]
        if not asked:
            raise InvalidInput("no request of users recorded")
        return asked
