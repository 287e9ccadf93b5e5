"""Studies made up: a baseline, candidates and rounds by their capacities; the answer to them and the step after."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Recommendation, Trial, TrialKind, TrialState
from controlplane.services.studies.conclude import conclusion
from tests.unit.studies.study_world import service_spec
from tests.unit.tuner.answer.measured_trials import NOW, a_level, a_study, a_trial, used
from tuner.answer.policy import Step, next_step
from tuner.answer.standing import Decision, decide

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Capacities = st.floats(0.5, 40)
OVER = "every candidate was tried"


def spec_of(target_qps: float = 10, *, gpus: int = 8, usd: float | None = None, **tuning: Any) -> ServiceSpec:
    slos: dict[str, Any] = {
        "latency": [{"metric": "ttft_ms", "percentile": 95, "limit_ms": 1000}],
        "target_qps": target_qps,
        "max_usd_per_hour": usd,
    }
    pool = {"type": "H200", "count": gpus, "price_usd_per_gpu_hour": 3}
    engine = {"kind": "emulator", "version": "0.26", "flags": {"max-model-len": 8192, "tensor-parallel-size": 1}}
    return service_spec(slos=slos, gpus=pool, engine=engine, tuning=tuning)


def config(tensor: int, **flags: Any) -> EngineConfig:
    return EngineConfig(flags={"max-model-len": 8192, "tensor-parallel-size": tensor, **flags})


def study_of(
    spec: ServiceSpec, baseline: tuple[int, float], *candidates: tuple[int, float], rounds: int = 0
) -> tuple[Trial, ...]:
    """Return trials: the baseline, candidates of (GPUs, capacity), and rounds of the first candidate."""
    gpus, rps = baseline
    base = config(gpus)
    found = [a_trial(spec, 0, TrialKind.BASELINE, base, rps)]
    for number, (tensor, capacity) in enumerate(candidates, start=1):
        tried = config(tensor, **{"max-num-seqs": 64 + number})
        found.append(a_trial(spec, number, TrialKind.SEARCH, tried, capacity))
    for _ in range(rounds):
        again = found[1].config
        found.append(a_trial(spec, len(found), TrialKind.CONFIRM_WINNER, again, candidates[0][1]))
        found.append(a_trial(spec, len(found), TrialKind.CONFIRM_BASELINE, base, rps))
    return tuple(found)


def checked(spec: ServiceSpec, trials: tuple[Trial, ...], replicas: int) -> tuple[Trial, ...]:
    """Add a fleet check of the first candidate that held."""
    rate = spec.slos.target_qps
    level = a_level(spec, rate, passed=True, replicas=replicas)
    check = a_trial(
        spec,
        len(trials),
        TrialKind.CONFIRM_FLEET,
        trials[1].config,
        None,
        state=TrialState.FEASIBLE,
        replicas=replicas,
        levels=(level,),
    )
    return (*trials, check)


def decided_of_both(
    spec: ServiceSpec, baseline_rps: float, rps: float, *, better: float, rounds: int
) -> tuple[Decision, Decision]:
    """Return what is decided of a candidate on one GPU, and of one of `better` times its capacity."""
    both = (study_of(spec, (1, baseline_rps), (1, each), rounds=rounds) for each in (rps, rps * better))
    worse, improved = (decide(spec, trials) for trials in both)
    return worse, improved


def answer(spec: ServiceSpec, trials: tuple[Trial, ...]) -> Recommendation:
    found = conclusion(a_study(spec), trials, stopped_because=OVER, now=NOW)
    assert isinstance(found, Recommendation)
    return found


def step_after(spec: ServiceSpec, trials: tuple[Trial, ...], *, over: str | None = OVER) -> Step:
    return next_step(spec, trials, used(trials), search_over=over)
