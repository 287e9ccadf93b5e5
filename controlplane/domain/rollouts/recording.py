"""When what a service's users asked is recorded well enough to be replayed in place of its declared workload. Pure.

A workload is what somebody expected; the gateways' records are what came: arrivals in their bursts, lengths together as
they were, blocks of prompts that repeat as theirs do. They hold no text, so a replay's words are made up.
"""

from __future__ import annotations

from datetime import timedelta

from controlplane.domain.rollouts.analysis import ReplaySource
from controlplane.domain.words import counted
from controlplane.domain.workload import ArrivalProcess, Arrivals, SyntheticWorkload, TraceWorkload, Workload

ENOUGH_REQUESTS = 1000
"""Ten beyond a P99, and more than twice what a step is usually judged on (some 420 requests at the default margins).

On the shipped traces the mean lengths of the 1,000 requests before a moment differ from those of the 420 after it by 5
to 8 % (medians), those of 100 by 8 to 15 %, those of 3,000 by 5 to 14 % and those of the whole trace by 5 to 21 %: what
users ask drifts within the hour (`python -m benchmarks.recording_size`).
"""
ENOUGH_S = 120.0
"""Engine time: one burst is no pattern of arrivals, and a load has to stand for a minute before it counts."""
MOST_REQUESTS = 3000
"""The latest: what is older says less of what is to come. So many are enough whatever time they took."""
MOST_BYTES = 32 << 20
"""Of records read for them: 3,000 with prompts of some 8,000 tokens, as each block of a prompt has a hash."""
SETTLES = timedelta(seconds=60)
"""Wall clock. Of what arrived in the last minute the longest answers are still in flight: it is left out whole."""
REACHES_BACK = timedelta(hours=24)
"""A service that had fewer users in a day is loaded by its workload."""


def lacking(requests: int, spans_s: float) -> str | None:
    """Say what a recording lacks, `spans_s` of engine time from its first request to its last; None: it is enough."""
    if requests < ENOUGH_REQUESTS:
        return f"{counted(requests, 'request')} of users recorded of the {ENOUGH_REQUESTS} that are enough"
    if spans_s < ENOUGH_S and requests < MOST_REQUESTS:
        return f"users' requests of {spans_s:.0f} s recorded of the {ENOUGH_S:.0f} s that are enough"
    return None


def replayable(trace: str, *, longest_prompt: int, longest_output: int) -> TraceWorkload:
    """Return the workload of a recording: as it came, in its own order, nothing cut."""
    return TraceWorkload(
        trace=trace,
        arrivals=Arrivals(process=ArrivalProcess.TRACE),
        max_prompt_tokens=longest_prompt,
        max_output_tokens=longest_output,
    )


def declared_instead(workload: Workload, why: str) -> ReplaySource:
    """Return the source where the workload is sent."""
    match workload:
        case TraceWorkload():
            return ReplaySource(workload=f"trace {workload.trace}", why=why)
        case SyntheticWorkload():
            return ReplaySource(workload="lengths drawn as declared", why=why)


def describe_source(source: ReplaySource) -> str:
    """Say what the replayed requests are made of, to follow the word replayed."""
    if source.recorded:
        return f"from {source.recorded} recorded requests of users ({source.recorded_s / 60:.0f} min)"
    return f"from the declared workload ({source.workload}; {source.why})"
