"""What is to be sent to one canary now, as values: the plan, the level it is, and where its records come from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from controlplane.domain.engines.fleet import Engine
from controlplane.domain.rollouts.replayed import Origin
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.serving import Service
from controlplane.ports.load import LoadRequest

if TYPE_CHECKING:
    from controlplane.services.rollouts.recording import Replayable


class Plan(NamedTuple):
    service: Service
    rollout: Rollout
    engines: Sequence[Engine]
    rate_rps: float  # to all canary replicas together, engine time
    time_lapse: float


def origin_of(plan: Plan, now: datetime, elapsed_s: float) -> Origin:
    """Return what the records of a run share that has been sending for so long, engine time."""
    dialect = plan.engines[0].spec.driver.dialect
    return Origin(
        rollout_id=plan.rollout.rollout_id,
        service=plan.service.name,
        model=plan.service.spec.model.name,
        revision=plan.rollout.canary,
        engine_id=plan.engines[0].spec.engine_id if len(plan.engines) == 1 else None,
        began=now - timedelta(seconds=elapsed_s / plan.time_lapse),
        time_lapse=plan.time_lapse,
        api=dialect.apis[0],
        forces_length=dialect.ignore_eos,
    )


def request_of(plan: Plan, url: str, sent: Replayable, *, seed: int) -> LoadRequest:
    """Return the level to run. It ends before a recording repeats: an engine would find the prompts in its cache."""
    spec, step = plan.service.spec, plan.rollout.options.steps[plan.rollout.step_index]
    engine = plan.engines[0].spec  # an alternative's may be of another kind than the service's own
    longest_s = step.max_s * plan.time_lapse
    once_s = sent.source.recorded / plan.rate_rps if sent.source.recorded else longest_s
    return LoadRequest(
        workload=sent.workload,
        rate_rps=plan.rate_rps,
        url=url,
        model=spec.model.name,
        duration_s=min(longest_s, once_s),
        time_lapse=plan.time_lapse,
        seed=seed,
        slos=spec.slos.latency,
        api_key=engine.api_key,
        dialect=engine.driver.dialect,
    )
